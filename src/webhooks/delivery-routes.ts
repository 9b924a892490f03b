import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { AppError, conflict, notFound } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { createRouter, idParam, json, listQuery, problems, withKey } from '../http/openapi.ts'
import type { AppEnv } from '../http/principal.ts'
import { deliveryAnswer, deliveryList, toDeliveryAnswer } from './delivery.ts'
import { webhookSender } from './sender-stub.ts'
import { findWebhook } from './store.ts'

const base = { tags: ['webhooks'], security: withKey, middleware: requireRole('admin') }

/** The webhook of the tenant that asks, and its sender. */
async function senderOf(c: Context<AppEnv>, webhookId: string) {
  const webhook = await findWebhook(openDb(c.env.DB), { tenantId: tenantOf(c), webhookId })
  if (!webhook) throw notFound('webhook')
  return { webhook, sender: webhookSender(c.env, webhook.id) }
}

/** What became of the events that a webhook asked for. */
export const deliveryRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'get',
      path: '/api/v1/webhooks/{id}/deliveries',
      description: 'All that are pending, and the last 1,000 that ended, for 30 days.',
      request: { params: idParam, query: listQuery },
      responses: { 200: json(deliveryList, 'Deliveries, newest first'), ...problems },
    }),
    async (c) => {
      const { limit, cursor } = c.req.valid('query')
      const { sender } = await senderOf(c, c.req.valid('param').id)
      const before = Number(placeOf(c, cursor) ?? Number.MAX_SAFE_INTEGER)
      const rows = await sender.deliveries(before, limit)
      const { items, nextCursor } = listPage(c, rows, limit, ({ number }) => String(number))
      return c.json({ items: items.map(toDeliveryAnswer), nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/api/v1/webhooks/{id}/deliveries/{deliveryId}/replay',
      description: 'Sends it again, whatever became of it, under the same `webhook-id` and with new tries.',
      request: { params: idParam.extend({ deliveryId: z.string() }) },
      responses: { 202: json(deliveryAnswer, 'The delivery, pending'), ...problems },
    }),
    async (c) => {
      const { id, deliveryId } = c.req.valid('param')
      const { webhook, sender } = await senderOf(c, id)
      if ((await sender.status()).disabled?.url === webhook.url) {
        throw conflict(
          'webhook.disabled',
          'Its receiver answered 410; a PATCH of the webhook sets it going again.',
        )
      }
      const delivery = await sender.replay(deliveryId)
      if (!delivery) throw new AppError(404, 'delivery.not_found', 'No such delivery is kept.')
      return c.json(toDeliveryAnswer(delivery), 202)
    },
  )
