import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { requireRole } from '../auth/middleware.ts'
import type { AppEnv, Principal } from '../auth/principal.ts'
import { createRouter, json, problems, withKey } from '../openapi.ts'
import { aclQuestion, authQuestion, mayConnect, mayUse } from './access.ts'

/** A question is a few names and a topic. */
const MAX_BYTES = 128 * 1024

const deny = { result: 'deny' as const }

const base = {
  tags: ['broker'],
  security: withKey,
  middleware: [requireRole('bridge'), bodyLimit({ maxSize: MAX_BYTES, onError: (c) => c.json(deny, 200) })],
  responses: {
    200: json(z.object({ result: z.enum(['allow', 'deny']) }), 'The decision, also on a body that is none'),
    ...problems,
  },
}

/** Described, not validated: a body that is no question is a denial, since brokers take a 4xx as *no opinion*. */
const body = (properties: string[]) => ({
  content: {
    'application/json': {
      schema: {
        type: 'object' as const,
        properties: Object.fromEntries(properties.map((name) => [name, { type: 'string' as const }])),
      },
    },
  },
})

export const brokerRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/broker/v1/auth',
      description: 'May this device connect?',
      request: { body: body(['username', 'password', 'clientid', 'peerhost']) },
    }),
    async (c) => c.json(await decide(c, authQuestion, mayConnect), 200),
  )
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/broker/v1/acl',
      description: 'May this device publish on the topic, or subscribe to the filter?',
      request: { body: body(['username', 'topic', 'action', 'clientid', 'peerhost']) },
    }),
    async (c) => c.json(await decide(c, aclQuestion, mayUse), 200),
  )

/** Denies what cannot be read, and where the answer cannot be found out: fail closed. */
async function decide<T>(
  c: Context<AppEnv>,
  schema: z.ZodType<T>,
  rule: (db: D1Database, bridge: Principal, question: T) => Promise<boolean>,
): Promise<{ result: 'allow' | 'deny' }> {
  const question = schema.safeParse(await c.req.json().catch(() => undefined))
  if (!question.success) return deny
  try {
    return (await rule(c.env.DB, c.var.principal, question.data)) ? { result: 'allow' } : deny
  } catch (error) {
    console.error(JSON.stringify({ code: 'broker.undecided', error: String(error) }))
    return deny
  }
}
