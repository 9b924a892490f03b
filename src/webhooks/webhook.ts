import { z } from '@hono/zod-openapi'
import { iso } from '../common/time.ts'
import type { webhooks } from '../db/schema.ts'
import { listOf, text } from '../http/openapi.ts'
import { MAX_URL_LENGTH } from './address.ts'
import type { SenderStatus } from './delivery.ts'
import { WEBHOOK_EVENT_TYPES, type WebhookEventType } from './event.ts'
import { isSecret } from './secret.ts'

export type Webhook = Omit<typeof webhooks.$inferSelect, 'events'> & { events: WebhookEventType[] }

/** Per tenant: each event goes to every webhook that asks for it. */
export const MAX_WEBHOOKS = 50

/** The rest of the check depends on the installation: the route calls `readAddress`. */
const url = text(MAX_URL_LENGTH).openapi({
  description: 'https and a public host, without username and password. Redirects are not followed.',
  example: 'https://example.com/hooks/edge-ota',
})

const eventType = z.enum(WEBHOOK_EVENT_TYPES)
const events = z
  .array(eventType)
  .min(1, 'must name an event')
  .max(WEBHOOK_EVENT_TYPES.length, `must be at most ${WEBHOOK_EVENT_TYPES.length} events`)
  .refine((types) => new Set(types).size === types.length, 'must not name an event twice')
  .openapi({ example: ['task.halted', 'device.failed'] })

const secret = z
  .string()
  .refine(isSecret, 'must be whsec_ and 24 to 64 bytes in base64')
  .openapi({ description: 'Signs the deliveries as the Standard Webhooks specification says' })

export const newWebhookBody = z.strictObject({
  url,
  events,
  secret: secret.nullish().openapi({ description: 'Generated if absent' }),
})
export const webhookChanges = z.strictObject({ url, events, secret }).partial()

export const webhookAnswer = z
  .object({
    id: z.string(),
    url: z.string(),
    events: z.array(eventType),
    createdAt: z.string(),
    disabledAt: z.string().nullable().openapi({
      description: 'Since then its receiver is gone (410) and nothing is sent; any PATCH enables it again',
    }),
    pending: z.number().int().openapi({ description: 'Deliveries that are still to be made' }),
    dropped: z
      .number()
      .int()
      .openapi({ description: 'Events that were not kept, because too many deliveries were pending' }),
  })
  .openapi('Webhook')
export const newWebhookAnswer = webhookAnswer
  .extend({ secret: z.string().openapi({ description: 'Shown this once' }) })
  .openapi('NewWebhook')
export const webhookList = listOf(webhookAnswer)

/** What a client sees: never the secret. */
export const toWebhookAnswer = (
  { id, url, events, createdAt }: Webhook,
  { disabled, pending, dropped }: SenderStatus,
): z.infer<typeof webhookAnswer> => ({
  id,
  url,
  events,
  createdAt: iso(createdAt),
  disabledAt: disabled?.url === url ? iso(disabled.at) : null,
  pending,
  dropped,
})
