import { createRoute } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import type { Env } from '../common/env.ts'
import { conflict, invalid, notFound } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { newIdFor } from '../http/new-id.ts'
import { createRouter, idParam, json, jsonBody, listQuery, problems, withKey } from '../http/openapi.ts'
import { addressRules, readAddress } from './address.ts'
import { deliveryRoutes } from './delivery-routes.ts'
import { newSecret } from './secret.ts'
import { IN_CASE_MS, webhookSender } from './sender-stub.ts'
import { deleteWebhook, findWebhook, insertWebhook, listWebhooks, updateWebhook } from './store.ts'
import {
  MAX_WEBHOOKS,
  newWebhookAnswer,
  newWebhookBody,
  toWebhookAnswer,
  type Webhook,
  webhookAnswer,
  webhookChanges,
  webhookList,
} from './webhook.ts'

// Even reading is for admins only: an address is often a secret itself.
const base = { tags: ['webhooks'], security: withKey, middleware: requireRole('admin') }
const one = { path: '/api/v1/webhooks/{id}', request: { params: idParam } } as const

const answerOf = async (env: Env, webhook: Webhook) =>
  toWebhookAnswer(webhook, await webhookSender(env, webhook.id).status())

/** The address as it is stored. Throws a 422 that names `url` if the address is not allowed. */
function allowedUrl(env: Env, text: string): string {
  const read = readAddress(text, addressRules(env))
  if ('fault' in read) throw invalid([{ path: 'url', message: read.fault }])
  return read.url
}

/** A tenant's webhooks (src/webhooks/README.md#events). */
export const webhookRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/api/v1/webhooks',
      description:
        'Each event is sent as a signed POST (`webhook-id`, `webhook-timestamp`, `webhook-signature`) with the body ' +
        '`{type, timestamp, data}`, at least once and in no certain order, and counts as delivered with any 2xx within ' +
        '10 s. Otherwise it is tried again, 10 times in about 3 days.',
      request: { body: jsonBody(newWebhookBody) },
      responses: {
        201: json(newWebhookAnswer, 'The new webhook; its secret is shown this once'),
        ...problems,
      },
    }),
    async (c) => {
      const body = c.req.valid('json')
      const webhook: Webhook = {
        id: await newIdFor(c, 'whk'),
        tenantId: tenantOf(c),
        url: allowedUrl(c.env, body.url),
        events: body.events,
        secret: body.secret ?? newSecret(),
        createdAt: c.var.repeat?.at ?? Date.now(),
      }
      if (!(await insertWebhook(openDb(c.env.DB), webhook))) {
        throw conflict('webhook.limit', `A tenant has ${MAX_WEBHOOKS} webhooks at most.`)
      }
      const nothingYet = { disabled: null, pending: 0, dropped: 0 }
      return c.json({ ...toWebhookAnswer(webhook, nothingYet), secret: webhook.secret }, 201)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'get',
      path: '/api/v1/webhooks',
      request: { query: listQuery },
      responses: { 200: json(webhookList, 'Webhooks, oldest first, without their secrets'), ...problems },
    }),
    async (c) => {
      const { limit, cursor } = c.req.valid('query')
      const rows = await listWebhooks(openDb(c.env.DB), tenantOf(c), limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (webhook) => webhook.id)
      const answers = await Promise.all(items.map((webhook) => answerOf(c.env, webhook)))
      return c.json({ items: answers, nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...one,
      method: 'get',
      responses: { 200: json(webhookAnswer, 'The webhook, without its secret'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), webhookId: c.req.valid('param').id }
      const webhook = await findWebhook(openDb(c.env.DB), ref)
      if (!webhook) throw notFound('webhook')
      return c.json(await answerOf(c.env, webhook), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...one,
      method: 'patch',
      description:
        'Takes effect with the next try, also of pending deliveries. Enables a disabled webhook again.',
      request: { params: idParam, body: jsonBody(webhookChanges) },
      responses: { 200: json(webhookAnswer, 'The webhook as it is now'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), webhookId: c.req.valid('param').id }
      const { url, ...changes } = c.req.valid('json')
      const webhook = await updateWebhook(openDb(c.env.DB), ref, {
        ...changes,
        ...(url !== undefined && { url: allowedUrl(c.env, url) }),
      })
      if (!webhook) throw notFound('webhook')
      await webhookSender(c.env, webhook.id).enable()
      return c.json(await answerOf(c.env, webhook), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...one,
      method: 'delete',
      description:
        'Deletes its deliveries too, also those that are pending. A try that is under way may still arrive.',
      responses: { 204: { description: 'Deleted' }, ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), webhookId: c.req.valid('param').id }
      const db = openDb(c.env.DB)
      if (!(await findWebhook(db, ref))) throw notFound('webhook')
      const sender = webhookSender(c.env, ref.webhookId)
      // So the sender empties itself even if this process ends right after the row is gone.
      await sender.wake(ref, IN_CASE_MS)
      if (!(await deleteWebhook(db, ref))) throw notFound('webhook')
      await sender.wake(ref)
      return c.body(null, 204)
    },
  )
  .route('/', deliveryRoutes)
