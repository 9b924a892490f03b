import { findTargetHandler } from 'hono/utils/handler'
import type { Role } from '../http/principal.ts'

type Handler = Parameters<typeof findTargetHandler>[0]

interface Route {
  method: string
  path: string
  handler: Handler
}

interface Operation {
  security?: Record<string, string[]>[]
}

const declared = new WeakMap<object, readonly Role[]>()

/** Says of a middleware that it admits only these roles, and those above them. */
export function declareRoles<T extends object>(middleware: T, roles: readonly Role[]): T {
  declared.set(middleware, roles)
  return middleware
}

/** The roles that a route's own middleware admits; undefined if it has none that declares any. */
export const rolesOfRoute = (routes: readonly Route[], method: string, path: string) =>
  routes
    .filter((route) => route.method === method && route.path === path)
    .map(({ handler }) => declared.get(findTargetHandler(handler)))
    .find((roles) => roles !== undefined)

/** Writes into an OpenAPI document which roles each call takes: as the names in its `security`. */
export function nameRoles<T extends { paths?: Record<string, object> | undefined }>(
  document: T,
  routes: readonly Route[],
): T {
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    const template = path.replaceAll(/\{(\w+)\}/g, ':$1')
    for (const [method, operation] of Object.entries(item as Record<string, Operation>)) {
      const roles = rolesOfRoute(routes, method.toUpperCase(), template)
      if (roles) operation.security = [{ key: [...roles] }]
    }
  }
  return document
}
