import type { Context, MiddlewareHandler } from 'hono'
import { forbidden, unauthorized } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import type { AppEnv, Principal, Role } from '../http/principal.ts'
import { limitFailures } from './failures.ts'
import { hashKey, isKey } from './key.ts'
import { declareRoles } from './route-roles.ts'
import { isFromOwnPage } from './session.ts'
import { findKey, toPrincipal, touchKey } from './store.ts'
import { principalOfVisitor } from './visitor.ts'

/** A tenant's roles: a route that is open to one is open to the higher ones. The other roles admit only themselves. */
const RANK: Partial<Record<Role, number>> = { viewer: 1, operator: 2, admin: 3 }

/**
 * Authenticates `Authorization: Bearer <key>` (src/http/README.md#keys) or, if one of the console's own pages asks, its
 * session. Sets `principal`; throws a 401 for anything else, and a 429 after too many wrong keys.
 */
export const requireKey: MiddlewareHandler<AppEnv> = async (c, next) => {
  const principal = await whoAsks(c, Date.now())
  if (!principal) throw unauthorized()
  c.set('principal', principal)
  await next()
}

async function whoAsks(c: Context<AppEnv>, now: number): Promise<Principal | undefined> {
  if (c.req.header('authorization') === undefined) {
    return isFromOwnPage(c) ? principalOfVisitor(c, now) : undefined
  }
  const text = bearerKey(c)
  if (text === undefined) return undefined
  const db = openDb(c.env.DB)
  const hash = await hashKey(text)
  const key = await limitFailures(c, hash, now, () => findKey(db, hash))
  if (!key) return undefined
  await touchKey(db, key, now)
  return toPrincipal(key)
}

/** The request's key; undefined if it carries nothing that has the form of a key. */
export function bearerKey(c: Context): string | undefined {
  const match = /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')
  return match?.[1] !== undefined && isKey(match[1]) ? match[1] : undefined
}

/**
 * Admits callers with one of the roles: `requireRole('operator')` an operator or admin of a tenant,
 * `requireRole('admin', 'root')` both of these. Root has no tenant, so a tenant's role never admits it. Throws a 403.
 */
export function requireRole(...roles: Role[]): MiddlewareHandler<AppEnv> {
  const handler: MiddlewareHandler<AppEnv> = async (c, next) => {
    if (!roles.some((role) => admits(role, c.var.principal.role))) {
      throw forbidden(`This takes a key with the role ${roles.join(' or ')}.`)
    }
    await next()
  }
  return declareRoles(handler, roles)
}

/** Whether a route that is open to `wanted` admits a key of role `actual`. */
export const admits = (wanted: Role, actual: Role) =>
  wanted === actual || (RANK[wanted] !== undefined && (RANK[actual] ?? 0) > RANK[wanted])

/** The caller's tenant, for routes that require a tenant's role. */
export function tenantOf(c: Context<AppEnv>): string {
  const { tenantId } = c.var.principal
  if (tenantId === null) throw forbidden('This takes a key of a tenant.')
  return tenantId
}
