import type { Env } from '../common/env.ts'
import { repeating } from '../common/retries.ts'
import type { WebhookSender } from './sender-object.ts'

/** Delay of the wake-up before a deletion, which counts if the process ends before the wake-up after it. */
export const IN_CASE_MS = 30_000

/** Calls that change nothing twice; an event has an id. */
const REPEATABLE = [
  'enqueue',
  'wake',
  'enable',
  'status',
  'deliveries',
] as const satisfies (keyof WebhookSender)[]

/** The sender of a webhook. The object's name is the webhook's id. */
export const webhookSender = (env: Env, webhookId: string): DurableObjectStub<WebhookSender> =>
  repeating(
    () => env.WEBHOOK_SENDER.getByName(webhookId) as unknown as DurableObjectStub<WebhookSender>,
    REPEATABLE,
  )
