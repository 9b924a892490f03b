import { and, asc, eq, gt, isNull, lt, or, type SQL } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { apiKeys } from '../db/schema.ts'
import type { Principal } from '../http/principal.ts'

export type ApiKey = typeof apiKeys.$inferSelect

/** The caller that a key stands for. */
export const toPrincipal = ({ id, name, role, tenantId, bridge }: ApiKey): Principal => ({
  keyId: id,
  keyName: name,
  role,
  tenantId,
  bridge,
})

/** `lastUsedAt` is written at most this often. */
const TOUCH_INTERVAL_MS = 3600_000

/** Whose keys: a tenant's, the installation's own (null), or every key, for root. */
export type KeyScope = { tenantId: string | null } | 'all'

/** The key with this hash, unless it was revoked. */
export const findKey = (db: Db, hash: string): Promise<ApiKey | undefined> =>
  db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.hash, hash), isNull(apiKeys.revokedAt)))
    .get()

/** The key of this id, unless it was revoked. */
export const findKeyById = (db: Db, id: string): Promise<ApiKey | undefined> =>
  db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
    .get()

/** Notes that the key was used: at most once an hour, and only once if several requests come together. */
export async function touchKey(db: Db, key: ApiKey, now: number): Promise<void> {
  const before = now - TOUCH_INTERVAL_MS
  if (key.lastUsedAt !== null && key.lastUsedAt >= before) return
  await db
    .update(apiKeys)
    .set({ lastUsedAt: now })
    .where(and(eq(apiKeys.id, key.id), or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, before))))
}

export const insertKey = (db: Db, key: ApiKey) => db.insert(apiKeys).values(key)

/** One row more than `limit`, for `page`. Revoked keys are listed too. */
export const listKeys = (db: Db, scope: KeyScope, limit: number, cursor = ''): Promise<ApiKey[]> =>
  db
    .select()
    .from(apiKeys)
    .where(and(inScope(scope), gt(apiKeys.id, cursor)))
    .orderBy(asc(apiKeys.id))
    .limit(limit + 1)

/** Revokes a key, keeping the time of the first call; false if the scope has no such key. */
export async function revokeKey(db: Db, scope: KeyScope, id: string, now: number): Promise<boolean> {
  const named = and(inScope(scope), eq(apiKeys.id, id))
  const revoked = await db
    .update(apiKeys)
    .set({ revokedAt: now })
    .where(and(named, isNull(apiKeys.revokedAt)))
    .returning({ id: apiKeys.id })
  if (revoked.length > 0) return true
  return (await db.select({ id: apiKeys.id }).from(apiKeys).where(named).get()) !== undefined
}

function inScope(scope: KeyScope): SQL | undefined {
  if (scope === 'all') return undefined
  return scope.tenantId === null ? isNull(apiKeys.tenantId) : eq(apiKeys.tenantId, scope.tenantId)
}
