import type { Context, MiddlewareHandler } from 'hono'
import { forbidden, unauthorized } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import type { AppEnv, Principal, Role } from '../http/principal.ts'
import { hashKey, isKey } from './key.ts'
import { isFromOwnPage } from './session.ts'
import { findKey, toPrincipal, touchKey } from './store.ts'
import { principalOfVisitor } from './visitor.ts'

/** Who may call a route: a tenant's role admits the higher ones, the others only themselves. */
const RANK: Partial<Record<Role, number>> = { viewer: 1, operator: 2, admin: 3 }

/**
 * Authenticates `Authorization: Bearer <key>`, or who sits at the console where one of its own pages asks, and sets
 * `principal`; 401 for anything else.
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
  const key = text === undefined ? undefined : await findKey(openDb(c.env.DB), await hashKey(text))
  if (!key) return undefined
  await touchKey(openDb(c.env.DB), key, now)
  return toPrincipal(key)
}

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
