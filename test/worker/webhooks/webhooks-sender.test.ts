import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { MAX_PENDING, openDeliveryStorage } from '../../../src/webhooks/delivery-storage.ts'
import { publishEvents } from '../../../src/webhooks/publish.ts'
import { send } from '../../../src/webhooks/send.ts'
import { webhookSender } from '../../../src/webhooks/sender-stub.ts'
import { makeTenant } from '../api.ts'
import { moveClock } from '../lab-clock.ts'
import { withoutTable } from '../without-table.ts'
import {
  deliveriesOf,
  makeEvent,
  makeReceiver,
  makeWebhook,
  untilDelivery,
  untilSent,
  verify,
} from './webhooks-fixture.ts'

const DAY_MS = 24 * 3600_000
const ALLOWED = { allowPrivate: true }

async function makeWebhookLab() {
  const admin = await makeTenant()
  const receiver = makeReceiver()
  const webhook = await makeWebhook(admin, receiver.url)
  const sender = webhookSender(env, webhook.id)
  const path = `/api/v1/webhooks/${webhook.id}`
  const publish = (...ids: string[]) =>
    publishEvents(
      env,
      admin.tenantId,
      ids.map((id) => makeEvent(id)),
    )
  const untilIs = (id: string, expected: object) => untilDelivery(admin, webhook.id, id, expected)
  return { admin, receiver, webhook, sender, path, publish, untilIs }
}

it('a delivery that was answered with 500 is tried again under the same id, with a new signature', async () => {
  const { receiver, webhook, publish, untilIs } = await makeWebhookLab()
  await receiver.answers({ status: 500, body: 'not now' }, { status: 200, body: 'thanks' })
  await publish('evt_1')
  const waiting = await untilIs('evt_1', { attempts: 1 })
  expect(waiting).toMatchObject({ state: 'pending', status: 500, answer: 'not now' })
  expect(waiting.error).toBe('the receiver answered 500')
  const wait = Date.parse(waiting.nextAttemptAt) - Date.parse(waiting.lastAttemptAt)
  expect(wait).toBeGreaterThanOrEqual(5000)
  expect(wait).toBeLessThanOrEqual(6000)
  moveClock(6000)
  const delivered = await untilIs('evt_1', { state: 'delivered' })
  expect(delivered).toMatchObject({
    attempts: 2,
    status: 200,
    answer: 'thanks',
    error: null,
    nextAttemptAt: null,
  })
  const received = await receiver.received()
  expect(received.map(({ headers }) => headers['webhook-id'])).toEqual(['evt_1', 'evt_1'])
  const [first, second] = received.map(({ headers }) => Number(headers['webhook-timestamp']))
  expect(second! - first!).toBeGreaterThanOrEqual(5)
  for (const request of received) verify(webhook.secret, request)
})

it('a delivery fails for good after ten tries in about three days', async () => {
  const { receiver, publish, untilIs } = await makeWebhookLab()
  await receiver.answers(...Array.from({ length: 11 }, () => ({ status: 503 })))
  await publish('evt_1')
  for (let attempts = 1; attempts < 10; attempts++) {
    await untilIs('evt_1', { attempts, state: 'pending' })
    moveClock(1.2 * DAY_MS)
  }
  expect(await untilIs('evt_1', { attempts: 10 })).toMatchObject({ state: 'failed', nextAttemptAt: null })
  expect(await receiver.received()).toHaveLength(10)
})

it('the sender of webhooks follows no redirect', async () => {
  const { receiver, publish, untilIs } = await makeWebhookLab()
  const elsewhere = makeReceiver()
  await receiver.answers({ status: 307, headers: { location: elsewhere.url } })
  await publish('evt_1')
  expect(await untilIs('evt_1', { attempts: 1 })).toMatchObject({ state: 'pending', status: 307 })
  expect(await elsewhere.received()).toEqual([])
})

it('the sender of webhooks sends nothing to an address that is no longer allowed', async () => {
  const receiver = makeReceiver()
  const webhook = { url: receiver.url, secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }
  expect(await send(webhook, { id: 'evt_1', body: '{}' }, { allowPrivate: false })).toMatchObject({
    status: null,
    error: 'the address must be https',
    isFinal: true,
  })
  expect(await receiver.received()).toEqual([])
  expect(await send(webhook, { id: 'evt_1', body: '{}' }, ALLOWED)).toMatchObject({
    status: 204,
    error: null,
  })
})

it('the sender of webhooks stops waiting for an answer after its time limit, and keeps what came of it', async () => {
  const receiver = makeReceiver()
  const webhook = { url: receiver.url, secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }
  const message = { id: 'evt_1', body: '{}' }
  await receiver.answers({ hangs: 'at once' }, { hangs: 'in the body', body: 'begun' })
  expect(await send(webhook, message, ALLOWED, 300)).toMatchObject({
    status: null,
    error: 'no answer within 0.3 s',
  })
  expect(await send(webhook, message, ALLOWED, 300)).toMatchObject({
    status: 200,
    error: null,
    answer: 'begun',
  })
  const nobody = { ...webhook, url: 'http://127.0.0.1:9/' }
  expect((await send(nobody, message, ALLOWED)).error).toMatch(/^no connection: /)
})

it('the sender of webhooks keeps 1 KiB of an answer and does not wait for the rest', async () => {
  const { receiver, publish, webhook, untilIs } = await makeWebhookLab()
  const endless = { body: 'x'.repeat(100_000), hangs: 'in the body' as const }
  await receiver.answers({ body: 'ü'.repeat(1000), status: 500 }, endless)
  await publish('evt_1')
  expect((await untilIs('evt_1', { attempts: 1 })).answer).toBe('ü'.repeat(512))
  // Longer than the test may take.
  const { answer } = await send(webhook, { id: 'evt_2', body: '{}' }, ALLOWED, 60_000)
  expect(answer).toBe('x'.repeat(1024))
})

it('a 410 disables a webhook until it is changed', async () => {
  const { admin, receiver, publish, path, untilIs } = await makeWebhookLab()
  await receiver.answers({ status: 410 })
  await publish('evt_1')
  expect(await untilIs('evt_1', { attempts: 1 })).toMatchObject({ state: 'failed', status: 410 })
  expect((await admin.call('GET', path)).body.disabledAt).toEqual(expect.any(String))
  await publish('evt_2')
  expect((await untilIs('evt_2', { state: 'failed' })).error).toContain('disabled')
  expect((await admin.call('POST', `${path}/deliveries/evt_2/replay`)).body.code).toBe('webhook.disabled')
  expect((await admin.call('PATCH', path, {})).body.disabledAt).toBeNull()
  expect(await admin.call('POST', `${path}/deliveries/evt_2/replay`)).toMatchObject({
    status: 202,
    body: { id: 'evt_2', state: 'pending' },
  })
  await untilIs('evt_2', { state: 'delivered' })
  expect(await receiver.received()).toHaveLength(2)
})

it("the sender of webhooks waits as long as the receiver's Retry-After says", async () => {
  const { receiver, sender, publish, untilIs } = await makeWebhookLab()
  await receiver.answers({ status: 429, headers: { 'retry-after': '600' } })
  await publish('evt_1')
  await untilIs('evt_1', { attempts: 1 })
  await publish('evt_2')
  const wokenAt = await runInDurableObject(sender, (_, { storage }) => storage.getAlarm())
  expect(wokenAt! - Date.now()).toBeGreaterThan(500_000)
  moveClock(590_000)
  expect(await untilIs('evt_2', { state: 'pending' })).toMatchObject({ attempts: 0 })
  expect(await receiver.received()).toHaveLength(1)
  moveClock(11_000)
  for (const id of ['evt_1', 'evt_2']) await untilIs(id, { state: 'delivered' })
})

it('a delivery can be replayed under its id, even one that arrived', async () => {
  const { admin, receiver, publish, path, untilIs } = await makeWebhookLab()
  await publish('evt_1')
  await untilIs('evt_1', { state: 'delivered' })
  expect((await admin.call('POST', `${path}/deliveries/evt_none/replay`)).body.code).toBe(
    'delivery.not_found',
  )
  expect((await admin.call('POST', `${path}/deliveries/evt_1/replay`)).status).toBe(202)
  await untilIs('evt_1', { state: 'delivered' })
  expect((await receiver.received()).map(({ headers }) => headers['webhook-id'])).toEqual(['evt_1', 'evt_1'])
})

it('the outcome of a try is dropped if the delivery was replayed meanwhile', async () => {
  const { sender } = await makeWebhookLab()
  const left = await runInDurableObject(sender, (_, { storage }) => {
    const deliveries = openDeliveryStorage(storage)
    deliveries.insert([makeEvent('evt_1')], 1000)
    const [tried] = deliveries.readDue(1000, 1)
    deliveries.replay('evt_1', 2000)
    const arrived = { status: 200, error: null, answer: '', retryAfterMs: null, isFinal: false }
    deliveries.writeOutcome(tried!, arrived, null, 3000)
    return deliveries.readDue(2000, 1)
  })
  expect(left).toMatchObject([{ id: 'evt_1', state: 'pending', attempts: 0, dueAt: 2000 }])
})

it('an event that is published several times is delivered once', async () => {
  const { admin, receiver, webhook, publish, untilIs } = await makeWebhookLab()
  await publish('evt_1', 'evt_1')
  await untilIs('evt_1', { state: 'delivered' })
  await publish('evt_1', 'evt_2')
  await untilIs('evt_2', { state: 'delivered' })
  expect(await deliveriesOf(admin, webhook.id)).toHaveLength(2)
  expect(await receiver.received()).toHaveLength(2)
})

it('a delivery is tried later if the database fails', async () => {
  const { admin, webhook, sender, untilIs } = await makeWebhookLab()
  const nextLook = () => runInDurableObject(sender, (_, { storage }) => storage.getAlarm())
  await withoutTable('webhooks', async () => {
    await sender.enqueue({ tenantId: admin.tenantId, webhookId: webhook.id }, [makeEvent('evt_1')])
    await untilSent(webhook.id, 'it looks later', async () => ((await nextLook()) ?? 0) > Date.now() + 20_000)
  })
  moveClock(31_000)
  await untilIs('evt_1', { state: 'delivered', attempts: 1 })
})

it('a delivery goes to the address, and is signed with the secret, that the webhook has when it is sent', async () => {
  const { admin, receiver, path, publish, untilIs } = await makeWebhookLab()
  await receiver.answers({ status: 500 })
  await publish('evt_1')
  await untilIs('evt_1', { attempts: 1 })
  const [moved, secret] = [makeReceiver(), 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']
  expect((await admin.call('PATCH', path, { url: moved.url, secret })).status).toBe(200)
  moveClock(6000)
  await untilIs('evt_1', { state: 'delivered' })
  verify(secret, (await moved.received())[0]!)
  expect(await receiver.received()).toHaveLength(1)
})

it('a deleted webhook gets nothing more, and its sender keeps nothing', async () => {
  const { admin, receiver, webhook, sender, path, publish, untilIs } = await makeWebhookLab()
  await receiver.answers({ status: 500 })
  await publish('evt_1')
  await untilIs('evt_1', { attempts: 1 })
  expect((await admin.call('DELETE', path)).status).toBe(204)
  moveClock(DAY_MS)
  await untilSent(webhook.id, 'the sender is empty', () =>
    runInDurableObject(sender, (_, { storage }) => [...storage.kv.list()].length === 0),
  )
  const left = await runInDurableObject(sender, async (_, { storage }) => [
    storage.sql.exec("SELECT name FROM sqlite_master WHERE name = 'deliveries'").toArray(),
    await storage.getAlarm(),
  ])
  expect(left).toEqual([[], null])
  expect(await receiver.received()).toHaveLength(1)
})

it('a webhook keeps a bounded number of deliveries and counts those that were dropped', async () => {
  const { admin, webhook, sender, path } = await makeWebhookLab()
  const ref = { tenantId: admin.tenantId, webhookId: webhook.id }
  const events = Array.from({ length: MAX_PENDING + 7 }, (_, n) => makeEvent(`evt_${n}`))
  await runInDurableObject(sender, (_, { storage }) => {
    openDeliveryStorage(storage).insert(events.slice(0, MAX_PENDING), Date.now() + DAY_MS)
  })
  await sender.enqueue(ref, events.slice(MAX_PENDING))
  expect((await admin.call('GET', path)).body).toMatchObject({ pending: MAX_PENDING, dropped: 7 })
  const kept = await runInDurableObject(sender, (_, { storage }) => {
    const deliveries = openDeliveryStorage(storage)
    deliveries.failPending('it was tested', Date.now())
    deliveries.prune(Date.now())
    const [newest] = deliveries.list(Number.MAX_SAFE_INTEGER, 1)
    const count = deliveries.list(Number.MAX_SAFE_INTEGER, MAX_PENDING).length
    deliveries.prune(Date.now() + 31 * DAY_MS)
    return [newest!.id, count, deliveries.list(Number.MAX_SAFE_INTEGER, 1).length]
  })
  expect(kept).toEqual([`evt_${MAX_PENDING - 1}`, 1000, 0])
})

it('deliveries of a webhook are listed newest first, in pages', async () => {
  const { admin, publish, path, untilIs } = await makeWebhookLab()
  const ids = Array.from({ length: 25 }, (_, n) => `evt_${n}`)
  await publish(...ids)
  for (const id of ids) await untilIs(id, { state: 'delivered' })
  const first = (await admin.call('GET', `${path}/deliveries?limit=20`)).body
  const rest = (await admin.call('GET', `${path}/deliveries?limit=20&cursor=${first.nextCursor}`)).body
  expect([...first.items, ...rest.items].map(({ id }) => id)).toEqual(ids.toReversed())
  expect(rest.nextCursor).toBeNull()
})
