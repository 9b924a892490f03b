import type { Context, MiddlewareHandler } from 'hono'
import { openDb } from '../db/client.ts'
import { forbidden, unauthorized } from '../errors.ts'
import { hashKey, isKey } from './key.ts'
import type { AppEnv, Principal, Role } from './principal.ts'
import { isFromOwnPage, keyOfSession } from './session.ts'
import { type ApiKey, findKey, touchKey } from './store.ts'

/** Who may call a route: a tenant's role admits the higher ones, the others only themselves. */
const RANK: Partial<Record<Role, number>> = { viewer: 1, operator: 2, admin: 3 }

/**
 * Authenticates `Authorization: Bearer <key>`, or a session of the console where one of its own pages asks, and sets
 * `principal`; 401 for anything else.
 */
export const requireKey: MiddlewareHandler<AppEnv> = async (c, next) => {
  const now = Date.now()
  const found = await keyOf(c, now)
  if (!found) throw unauthorized()
  await touchKey(openDb(c.env.DB), found, now)
  c.set('principal', toPrincipal(found))
  await next()
}

async function keyOf(c: Context<AppEnv>, now: number): Promise<ApiKey | undefined> {
  if (c.req.header('authorization') === undefined) {
    return isFromOwnPage(c) ? keyOfSession(c, now) : undefined
  }
  const key = bearerKey(c)
  return key === undefined ? undefined : findKey(openDb(c.env.DB), await hashKey(key))
}

export const toPrincipal = ({ id: keyId, name: keyName, role, tenantId, bridge }: ApiKey): Principal => ({
  ...{ keyId, keyName, role, tenantId, bridge },
})

/** The key that the request carries; undefined where it carries none that could be one. */
export function bearerKey(c: Context): string | undefined {
  const match = /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')
  return match?.[1] !== undefined && isKey(match[1]) ? match[1] : undefined
}

/**
 * Lets pass whom one of the roles admits: `requireRole('operator')` an operator or admin of a tenant,
 * `requireRole('admin', 'root')` both of them. Root has no tenant, so a tenant's role never admits it.
 */
export function requireRole(...roles: Role[]): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    if (!roles.some((role) => admits(role, c.var.principal.role))) {
      throw forbidden(`This takes a key with the role ${roles.join(' or ')}.`)
    }
    await next()
  }
}

/** Does a route open to `wanted` let a key of role `actual` pass? */
export const admits = (wanted: Role, actual: Role) =>
  wanted === actual || (RANK[wanted] !== undefined && (RANK[actual] ?? 0) > RANK[wanted])

/** The tenant of a route that asked for a tenant's role. */
export function tenantOf(c: Context<AppEnv>): string {
  const { tenantId } = c.var.principal
  if (tenantId === null) throw forbidden('This takes a key of a tenant.')
  return tenantId
}
