import { z } from '@hono/zod-openapi'
import { iso } from '../common/time.ts'
import { listOf } from '../http/openapi.ts'
import { WEBHOOK_EVENT_TYPES, type WebhookEventType } from './event.ts'

/** One event on its way to one webhook. */
export interface Delivery {
  /** Orders deliveries by when they were added. */
  number: number
  /** The event's: a webhook has one delivery of an event, and every try of it goes out under this id. */
  id: string
  type: WebhookEventType
  /** When the event happened; this and all other times in milliseconds since 1970. */
  at: number
  state: 'pending' | 'delivered' | 'failed'
  /** Tries since it was added, or last replayed. */
  attempts: number
  /** When the next try is due; null if there is none. */
  dueAt: number | null
  lastAttemptAt: number | null
  /** HTTP status of the last try; null if no answer came. */
  status: number | null
  /** Why the last try did not deliver. */
  error: string | null
  /** The beginning of the last answer's body. */
  answer: string | null
}

/** The outcome of one try. */
export interface Outcome {
  status: number | null
  /** Null: delivered. */
  error: string | null
  answer: string | null
  /** How long the receiver asks to be left alone, in ms. */
  retryAfterMs: number | null
  /** A further try could not end differently. */
  isFinal: boolean
}

/** The state of a webhook's sender. */
export interface SenderStatus {
  /** The receiver at this address answered that it is gone (410). */
  disabled: { at: number; url: string } | null
  pending: number
  dropped: number
}

export const deliveryAnswer = z
  .object({
    id: z.string().openapi({ description: 'The `webhook-id` of every try' }),
    type: z.enum(WEBHOOK_EVENT_TYPES),
    at: z.string().openapi({ description: 'When the event happened' }),
    state: z.enum(['pending', 'delivered', 'failed']),
    attempts: z.number().int(),
    lastAttemptAt: z.string().nullable(),
    nextAttemptAt: z.string().nullable(),
    status: z.number().int().nullable().openapi({ description: 'Of the last answer' }),
    error: z.string().nullable(),
    answer: z
      .string()
      .nullable()
      .openapi({ description: 'At most the first 1,024 bytes of the last answer' }),
  })
  .openapi('WebhookDelivery')
export const deliveryList = listOf(deliveryAnswer)

export const toDeliveryAnswer = (delivery: Delivery): z.infer<typeof deliveryAnswer> => ({
  id: delivery.id,
  type: delivery.type,
  at: iso(delivery.at),
  state: delivery.state,
  attempts: delivery.attempts,
  lastAttemptAt: iso(delivery.lastAttemptAt),
  nextAttemptAt: iso(delivery.dueAt),
  status: delivery.status,
  error: delivery.error,
  answer: delivery.answer,
})
