import type { Env } from '../common/env.ts'
import { openDb } from '../db/client.ts'
import type { WebhookEvent } from './event.ts'
import { webhookSender } from './sender-stub.ts'
import { findSubscriptions } from './store.ts'

/** Hands events over to the tenant's webhooks. Throws if one could not be reached; a repeated id changes nothing. */
export async function publishEvents(env: Env, tenantId: string, events: WebhookEvent[]): Promise<void> {
  const subscriptions = await findSubscriptions(openDb(env.DB), tenantId)
  const handedOver = await Promise.allSettled(
    subscriptions.map(async ({ id, events: types }) => {
      const wanted = events.filter(({ type }) => types.includes(type))
      if (wanted.length > 0) await webhookSender(env, id).enqueue({ tenantId, webhookId: id }, wanted)
    }),
  )
  // Thrown only now, so that a webhook that cannot be reached keeps no event from the others.
  const failed = handedOver.find(({ status }) => status === 'rejected')
  if (failed) throw (failed as PromiseRejectedResult).reason
}
