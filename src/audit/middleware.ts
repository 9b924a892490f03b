import type { Context, MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { AppEnv } from '../http/principal.ts'
import { actionOf } from './actions.ts'
import { auditDone } from './audit.ts'
import type { Detail } from './detail.ts'

const CHANGING = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

/**
 * Records every change that returned 2xx, before the answer leaves. It runs inside the idempotency middleware, so that
 * a repeated answer makes no second entry.
 */
export const auditChanges: MiddlewareHandler<AppEnv> = async (c, next) => {
  if (!CHANGING.has(c.req.method)) return next()
  const recorded = (async () => {
    await next()
    if (c.res.ok) await record(c)
  })()
  // A client that goes away must not end the work between a change and its entry.
  c.executionCtx.waitUntil(recorded.catch(() => {}))
  await recorded
}

async function record(c: Context<AppEnv>): Promise<void> {
  // After `next()` this is the route that handled the request.
  const action = actionOf(c.req.method, routePath(c))
  if (action === null) return
  const { id, ...params } = c.req.param() as Record<string, string>
  const target = id ?? (await idOfAnswer(c.res))
  await auditDone(c, { action, target, detail: { ...params, ...asked(c, 'query'), ...asked(c, 'json') } })
}

/** The request as the route's own schema read it, so that no unknown field is recorded. */
function asked(c: Context<AppEnv>, part: 'query' | 'json'): Detail {
  const value: unknown = c.req.valid(part as never)
  return typeof value === 'object' && value !== null ? (value as Detail) : {}
}

/** The id of what was created; null for an answer that has none. */
async function idOfAnswer(answer: Response): Promise<string | null> {
  if (answer.status !== 201) return null
  const body = (await answer
    .clone()
    .json()
    .catch(() => null)) as { id?: unknown } | null
  return typeof body?.id === 'string' ? body.id : null
}
