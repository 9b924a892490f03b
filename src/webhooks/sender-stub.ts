import type { Env } from '../common/env.ts'

/** For a wake-up before a deletion, which counts where the process ends before the one after it. */
export const IN_CASE_MS = 30_000

/** The one place that knows how a webhook's sender is addressed. */
export const webhookSender = (env: Env, webhookId: string) => env.WEBHOOK_SENDER.getByName(webhookId)
