import type { Env } from '../common/env.ts'
import type { WebhookSender } from './sender-object.ts'

/** For a wake-up before a deletion, which counts where the process ends before the one after it. */
export const IN_CASE_MS = 30_000

/** A webhook's sender: its name is the webhook's id. */
export const webhookSender = (env: Env, webhookId: string) =>
  env.WEBHOOK_SENDER.getByName(webhookId) as unknown as DurableObjectStub<WebhookSender>
