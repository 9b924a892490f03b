import { createRoute, z } from '@hono/zod-openapi'
import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { requireRole } from '../auth/middleware.ts'
import { errorFields, logError } from '../common/log.ts'
import { createRouter, json, problems, text, withKey } from '../http/openapi.ts'
import type { AppEnv, Principal } from '../http/principal.ts'
import { bridgeMayAsk, peerMayAsk } from '../http/rate-limit.ts'
import { feedPage, MAX_FEED_CURSOR_LENGTH, MAX_FEED_ITEMS } from '../protocol/credentials-feed.ts'
import { aclQuestion, authQuestion, mayConnect, mayUse } from './access.ts'
import { readCredentials } from './credentials.ts'

/** A question is a few names and a topic. */
const MAX_BYTES = 128 * 1024

const deny = { result: 'deny' as const }

const base = {
  tags: ['broker'],
  security: withKey,
  middleware: [requireRole('bridge'), bodyLimit({ maxSize: MAX_BYTES, onError: (c) => c.json(deny, 200) })],
  responses: {
    200: json(
      z.object({ result: z.enum(['allow', 'deny']) }),
      'The decision, also on a body that cannot be read',
    ),
    ...problems,
  },
}

/** Described but not validated: an invalid body is a denial, since brokers take a 4xx as *no opinion*. */
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

/** The outermost handler: a failure on our side or a limit before the question is read is a denial, too. */
export const denyOnFailure: MiddlewareHandler<AppEnv> = async (c, next) => {
  await next()
  if (c.res.status >= 500 || c.res.status === 429) c.res = c.json(deny, 200)
}

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
  .openapi(
    createRoute({
      tags: ['bridge'],
      security: withKey,
      middleware: requireRole('bridge'),
      method: 'get',
      path: '/bridge/v1/credentials',
      description:
        "What changed since the cursor `after` among the credentials of the bridge's devices, so that it can let " +
        'them in by itself. Usernames come as salted hashes, passwords as they are stored. Pages are read until ' +
        '`more` is false; without a cursor, or with one that no longer counts, from the start (`reset`).',
      request: {
        query: z.object({
          after: text(MAX_FEED_CURSOR_LENGTH).optional(),
          limit: z.coerce.number().int().min(1).max(MAX_FEED_ITEMS).default(MAX_FEED_ITEMS),
        }),
      },
      responses: { 200: json(feedPage, 'One page, in the order of the changes'), ...problems },
    }),
    async (c) => {
      const { after, limit } = c.req.valid('query')
      return c.json(await readCredentials(c.env.DB, c.var.principal, after, limit), 200)
    },
  )

/** Fails closed: denies a question that cannot be read, comes too often or cannot be decided. */
async function decide<T extends { peerhost?: string | undefined }>(
  c: Context<AppEnv>,
  schema: z.ZodType<T>,
  rule: (db: D1Database, bridge: Principal, question: T) => Promise<boolean>,
): Promise<{ result: 'allow' | 'deny' }> {
  try {
    if (!(await bridgeMayAsk(c))) return deny
    const question = schema.safeParse(await c.req.json().catch(() => undefined))
    if (!question.success) return deny
    const { peerhost } = question.data
    if (peerhost && !(await peerMayAsk(c, peerhost))) return deny
    return (await rule(c.env.DB, c.var.principal, question.data)) ? { result: 'allow' } : deny
  } catch (error) {
    logError('broker.undecided', errorFields(error))
    return deny
  }
}
