import type { MiddlewareHandler } from 'hono'

/**
 * Nothing is kept by a browser or proxy, or read as another type than its own, unless the route says otherwise: keys,
 * tokens, links and sessions stand in answers of all kinds.
 */
export const safeHeaders: MiddlewareHandler = async (c, next) => {
  await next()
  const { headers, webSocket } = c.res
  if (webSocket) return
  if (!headers.has('cache-control')) headers.set('cache-control', 'no-store')
  headers.set('x-content-type-options', 'nosniff')
}
