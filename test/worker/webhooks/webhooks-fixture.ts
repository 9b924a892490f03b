import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { Webhook as Verifier } from 'standardwebhooks'
import { expect, inject } from 'vitest'
import { BridgeHub } from '../../../src/hub/hub-object.ts'
import type { WebhookEvent, WebhookEventType } from '../../../src/webhooks/event.ts'
import { WebhookSender } from '../../../src/webhooks/sender-object.ts'
import { webhookSender } from '../../../src/webhooks/sender-stub.ts'
import type { Client } from '../api.ts'
import { until } from '../lab-clock.ts'
import type { Received, Scripted } from './webhooks-receiver.ts'

let names = 0

/** A receiver of webhooks on a real HTTP server, with a path of its own for each test. */
export function makeReceiver() {
  const name = `${Date.now()}-${names++}`
  const at = (path: string) => `${inject('receiverUrl')}/${path}/${name}`
  return {
    url: at('hook'),
    /** Sets the receiver's next answers, in order. */
    answers: async (...answers: Scripted[]) => {
      await (await fetch(at('script'), { method: 'PUT', body: JSON.stringify(answers) })).text()
    },
    received: async (): Promise<Received[]> => (await fetch(at('received'))).json(),
  }
}
export type Receiver = ReturnType<typeof makeReceiver>

/** Makes a webhook through the API, and returns it with its secret. */
export async function makeWebhook(admin: Client, url: string, events: WebhookEventType[] = ['task.halted']) {
  const made = await admin.call('POST', '/api/v1/webhooks', { url, events })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body as { id: string; secret: string; url: string }
}

export const makeEvent = (id: string, more: Partial<WebhookEvent> = {}): WebhookEvent => ({
  id,
  type: 'task.halted',
  at: Date.UTC(2026, 0, 2),
  data: { taskId: 'tsk_1' },
  ...more,
})

/** Returns the body if its signature is valid for the secret; else throws. */
export const verify = (secret: string, { body, headers }: Received) =>
  new Verifier(secret).verify(body, headers as Record<string, string>)

// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
export const deliveriesOf = async (admin: Client, webhookId: string): Promise<any[]> =>
  (await admin.call('GET', `/api/v1/webhooks/${webhookId}/deliveries`)).body.items

const working = new Map<unknown, number>()
/** Counts the alarms at work: an object never has two at once, and the tests must not ring a second one. */
for (const { prototype } of [WebhookSender, BridgeHub]) {
  const ring = prototype.alarm
  prototype.alarm = async function (this: WebhookSender & BridgeHub) {
    working.set(this, (working.get(this) ?? 0) + 1)
    try {
      await ring.call(this)
    } finally {
      working.set(this, working.get(this)! - 1)
    }
  }
}

/** Waits until the condition holds, and rings the objects' alarms if they are due by the moved clock. */
export const untilRung = (
  objects: DurableObjectStub<WebhookSender | BridgeHub>[],
  what: string,
  condition: () => Promise<boolean>,
) =>
  until(what, async () => {
    for (const object of objects) {
      const isDue = await runInDurableObject(object, async (instance, { storage }) => {
        const at = await storage.getAlarm()
        return at !== null && at <= Date.now() && (working.get(instance) ?? 0) === 0
      })
      if (isDue) await runDurableObjectAlarm(object)
    }
    return condition()
  })

export const untilSent = (webhookId: string, what: string, condition: () => Promise<boolean>) =>
  untilRung([webhookSender(env, webhookId)], what, condition)

/** Waits until the delivery has these properties, and returns it. */
export async function untilDelivery(admin: Client, webhookId: string, id: string, expected: object) {
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
  let delivery: any
  await untilSent(webhookId, `${id} is ${JSON.stringify(expected)}`, async () => {
    delivery = (await deliveriesOf(admin, webhookId)).find((item) => item.id === id)
    return delivery !== undefined && Object.entries(expected).every(([key, value]) => delivery[key] === value)
  })
  return delivery
}
