import type { Context, MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { AppEnv } from '../http/principal.ts'
import { actionOf } from './actions.ts'
import { auditDone } from './audit.ts'
import type { Detail } from './detail.ts'

const CHANGING = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])

/**
 * Records every change that answered 2xx, before the answer leaves. It stands behind the Idempotency-Key, so that an
 * answer that is only repeated has no second entry.
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
  // After `next()` this is the route that answered.
  const action = actionOf(c.req.method, routePath(c))
  if (action === null) return
  const { id, ...params } = c.req.param() as Record<string, string>
  const target = id ?? (await idOfAnswer(c.res))
  await auditDone(c, { action, target, detail: { ...params, ...asked(c, 'query'), ...asked(c, 'json') } })
}

/** What the route's own schema made of the request: nothing that it does not know is recorded. */
function asked(c: Context<AppEnv>, part: 'query' | 'json'): Detail {
  const value: unknown = c.req.valid(part as never)
  return typeof value === 'object' && value !== null ? (value as Detail) : {}
}

/** The id of what was made; null for an answer that names none. */
async function idOfAnswer(answer: Response): Promise<string | null> {
  if (answer.status !== 201) return null
  const body = (await answer
    .clone()
    .json()
    .catch(() => null)) as { id?: unknown } | null
  return typeof body?.id === 'string' ? body.id : null
}
