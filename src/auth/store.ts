import { and, asc, eq, gt, isNull, lt, or, type SQL, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { apiKeys, sessions } from '../db/schema.ts'
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

/** A key is in force until it is revoked; a trigger of D1 revokes the keys of a tenant that is deleted. */
const IN_FORCE = isNull(apiKeys.revokedAt)

/** The key with this hash, if it is in force. */
export const findKey = (db: Db, hash: string): Promise<ApiKey | undefined> =>
  db
    .select()
    .from(apiKeys)
    .where(and(eq(apiKeys.hash, hash), IN_FORCE))
    .get()

/** The key with this hash, also if it was revoked: to say whose it was. */
export const findKeyThatWas = (db: Db, hash: string): Promise<ApiKey | undefined> =>
  db.select().from(apiKeys).where(eq(apiKeys.hash, hash)).get()

/** Which of these keys are in force, by id. */
export async function keysInForce(db: Db, ids: string[]): Promise<Set<string>> {
  const named = sql`${apiKeys.id} IN (SELECT value FROM json_each(${JSON.stringify(ids)}))`
  const rows = await db.select({ id: apiKeys.id }).from(apiKeys).where(and(named, IN_FORCE))
  return new Set(rows.map(({ id }) => id))
}

/** Keeps a session, and deletes those that have ended. */
export const insertSession = (db: Db, session: typeof sessions.$inferInsert, now: number) =>
  db.batch([db.insert(sessions).values(session), db.delete(sessions).where(lt(sessions.endsAt, now))])

/** The key that signed in, if the session is not over and the key is in force. */
export async function findKeyOfSession(db: Db, idHash: string, now: number): Promise<ApiKey | undefined> {
  const row = await db
    .select({ key: apiKeys })
    .from(sessions)
    .innerJoin(apiKeys, eq(apiKeys.id, sessions.keyId))
    .where(and(eq(sessions.idHash, idHash), gt(sessions.endsAt, now), IN_FORCE))
    .get()
  return row?.key
}

export const deleteSession = (db: Db, idHash: string) =>
  db.delete(sessions).where(eq(sessions.idHash, idHash))

/** Notes that the key was used: at most once an hour, and only once if several requests come together. */
export async function touchKey(db: Db, key: ApiKey, now: number): Promise<void> {
  const before = now - TOUCH_INTERVAL_MS
  if (key.lastUsedAt !== null && key.lastUsedAt >= before) return
  await db
    .update(apiKeys)
    .set({ lastUsedAt: now })
    .where(and(eq(apiKeys.id, key.id), or(isNull(apiKeys.lastUsedAt), lt(apiKeys.lastUsedAt, before))))
}

/** A repeat gets a new secret for the key that was made before: nobody ever saw the first. */
export const insertKey = (db: Db, key: ApiKey) =>
  db
    .insert(apiKeys)
    .values(key)
    .onConflictDoUpdate({ target: apiKeys.id, set: { hash: key.hash }, setWhere: isNull(apiKeys.revokedAt) })

/** One row more than `limit`, for `page`. Revoked keys are listed too. */
export const listKeys = (db: Db, scope: KeyScope, limit: number, cursor = ''): Promise<ApiKey[]> =>
  db
    .select()
    .from(apiKeys)
    .where(and(inScope(scope), gt(apiKeys.id, cursor)))
    .orderBy(asc(apiKeys.id))
    .limit(limit + 1)

/** Revokes a key, keeping the time of the first call. Returns the key; undefined if the scope has no such key. */
export async function revokeKey(
  db: Db,
  scope: KeyScope,
  id: string,
  now: number,
): Promise<ApiKey | undefined> {
  const named = and(inScope(scope), eq(apiKeys.id, id))
  const [, found] = await db.batch([
    db
      .update(apiKeys)
      .set({ revokedAt: now })
      .where(and(named, isNull(apiKeys.revokedAt))),
    db.select().from(apiKeys).where(named),
  ])
  return found[0]
}

function inScope(scope: KeyScope): SQL | undefined {
  if (scope === 'all') return undefined
  return scope.tenantId === null ? isNull(apiKeys.tenantId) : eq(apiKeys.tenantId, scope.tenantId)
}
