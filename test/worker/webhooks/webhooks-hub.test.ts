import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { hubName, hubStub } from '../../../src/hub/hub.ts'
import type { WebhookEventType } from '../../../src/webhooks/event.ts'
import { webhookSender } from '../../../src/webhooks/sender-stub.ts'
import { makeTenant } from '../api.ts'
import { says } from '../lab.ts'
import { type LabBridge, makeBridge } from '../lab-bridge.ts'
import { moveClock, until } from '../lab-clock.ts'
import { withoutTable } from '../without-table.ts'
import { makeReceiver, makeWebhook, untilRung } from './webhooks-fixture.ts'

const MINUTE_MS = 60_000
const EVENTS: WebhookEventType[] = ['bridge.away', 'rejections.spiking']
let names = 0

/** A tenant with a product on the bridge, and a webhook for the bridge's events. */
async function makeListener(bridge: string, events = EVENTS) {
  const admin = await makeTenant()
  expect((await admin.call('POST', '/api/v1/products', { name: 'lamp', bridge })).status).toBe(201)
  const receiver = makeReceiver()
  const webhook = await makeWebhook(admin, receiver.url, events)
  const heard = async () =>
    // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
    (await receiver.received()).map(({ body }) => JSON.parse(body) as any)
  return { admin, receiver, heard, sender: webhookSender(env, webhook.id) }
}

async function makeOwnBridge() {
  const name = `own-${names++}`
  const listener = await makeListener(name)
  const bridge = await makeBridge(listener.admin.tenantId, name)
  const hub = hubStub(env, hubName(listener.admin.tenantId, name))
  await until('the bridge is connected', async () => (await hub.status()).credit > 0)
  const untilHeard = (count: number) =>
    untilRung([hub, listener.sender], `${count} came`, async () => (await listener.heard()).length === count)
  return { ...listener, name, bridge, hub, untilHeard }
}

/** Closes the bridge's socket and waits until the hub has noticed. */
async function leave(bridge: LabBridge, hub: ReturnType<typeof hubStub>): Promise<void> {
  bridge.close()
  await until('the hub has noticed that the bridge is gone', async () => !(await hub.status()).connected)
}

/** Waits until the hub has nothing left to do at this time. */
const untilQuiet = (hub: ReturnType<typeof hubStub>) =>
  untilRung([hub], 'the hub is quiet', () =>
    runInDurableObject(hub, async (_, { storage }) => {
      const at = await storage.getAlarm()
      return at === null || at > Date.now()
    }),
  )

const unreadable = (count: number) =>
  Array.from({ length: count }, () =>
    says({ id: 'dev_none', number: 'none', token: 'nobody' }, 'ota/device/inform', 'nonsense'),
  )

it('a webhook tells once that a bridge was away for five minutes, and again the next time', async () => {
  const { bridge, hub, name, heard, untilHeard } = await makeOwnBridge()
  await bridge.idleFor(3 * MINUTE_MS)
  const left = Date.now()
  await leave(bridge, hub)
  moveClock(4.9 * MINUTE_MS)
  await untilQuiet(hub)
  expect(await heard()).toEqual([])
  moveClock(0.2 * MINUTE_MS)
  await untilHeard(1)
  const [event] = await heard()
  expect(event).toMatchObject({ type: 'bridge.away', data: { bridge: name, scope: 'tenant' } })
  expect(Math.abs(Date.parse(event.data.since) - left)).toBeLessThan(MINUTE_MS)
  moveClock(120 * MINUTE_MS)
  await untilQuiet(hub)
  expect(await heard()).toHaveLength(1)

  await bridge.connect()
  await until('the bridge is back', async () => (await hub.status()).credit > 0)
  moveClock(MINUTE_MS)
  await leave(bridge, hub)
  moveClock(6 * MINUTE_MS)
  await untilHeard(2)
})

it('no webhook tells of a bridge that comes back within five minutes or keeps handing over messages', async () => {
  const { bridge, hub, heard } = await makeOwnBridge()
  await leave(bridge, hub)
  moveClock(4 * MINUTE_MS)
  await bridge.connect()
  await until('the bridge is back', async () => (await hub.status()).credit > 0)
  for (let passed = 0; passed < 30; passed += 3) {
    await bridge.idleFor(3 * MINUTE_MS)
    await untilQuiet(hub)
  }
  expect(await heard()).toEqual([])
})

it('the hub notices that a bridge is gone although the socket never closed and the hub lost its memory', async () => {
  const { hub, untilHeard } = await makeOwnBridge()
  await evictDurableObject(hub)
  moveClock(6 * MINUTE_MS)
  await untilHeard(1)
})

it('events of a shared bridge go, without figures, to each tenant that it serves and that subscribed to them', async () => {
  const name = `shared-${names++}`
  const bridge = await makeBridge(null as never, name)
  const hub = hubStub(env, hubName(null, name))
  const [one, two] = [await makeListener(name), await makeListener(name)]
  const others = [
    await makeListener('elsewhere'),
    await makeListener(name, ['task.halted']),
    await makeListener(name),
  ]
  // The last tenant has a bridge of its own with that name.
  await makeBridge(others[2]!.admin.tenantId, name)
  await bridge.post(unreadable(100))
  await leave(bridge, hub)
  moveClock(6 * MINUTE_MS)
  const senders = [one, two, ...others].map(({ sender }) => sender)
  for (const { heard } of [one, two]) {
    await untilRung([hub, ...senders], 'both events came', async () => (await heard()).length === 2)
    const events = (await heard()).toSorted((a, b) => a.type.localeCompare(b.type))
    expect(events.map(({ type, data }) => ({ type, data }))).toEqual([
      { type: 'bridge.away', data: { bridge: name, scope: 'installation', since: expect.any(String) } },
      { type: 'rejections.spiking', data: { bridge: name, scope: 'installation' } },
    ])
  }
  const ids = await Promise.all(
    [one, two].map(async ({ receiver }) => (await receiver.received())[0]!.headers),
  )
  expect(ids[0]!['webhook-id']).not.toBe(ids[1]!['webhook-id'])
  for (const { heard } of others) expect(await heard()).toEqual([])
})

it('a webhook tells that rejections are spiking, with figures, at most once an hour', async () => {
  const { bridge, hub, name, heard, untilHeard } = await makeOwnBridge()
  // Starts at the beginning of a minute, so that all of these rejections fall into the same one.
  moveClock(MINUTE_MS - (Date.now() % MINUTE_MS) + 1000)
  await bridge.post(unreadable(99))
  await untilQuiet(hub)
  expect(await heard()).toEqual([])
  moveClock(MINUTE_MS)
  await bridge.post(unreadable(60))
  await bridge.post(unreadable(60))
  await untilHeard(1)
  expect((await heard())[0]).toMatchObject({
    type: 'rejections.spiking',
    data: { bridge: name, scope: 'tenant', inThisMinute: 120, perMinuteInTheHourBefore: 1.7 },
  })
  expect(JSON.stringify(await heard())).not.toContain('nobody')
  moveClock(30 * MINUTE_MS)
  await bridge.post(unreadable(500))
  await untilQuiet(hub)
  expect(await heard()).toHaveLength(1)
  moveClock(31 * MINUTE_MS)
  await bridge.post(unreadable(500))
  await untilHeard(2)
})

it('an event that could not be published at first is published later, once', async () => {
  const { bridge, hub, receiver, untilHeard } = await makeOwnBridge()
  await leave(bridge, hub)
  moveClock(6 * MINUTE_MS)
  await withoutTable('webhooks', () => untilQuiet(hub))
  await evictDurableObject(hub)
  moveClock(2 * MINUTE_MS)
  await untilHeard(1)
  expect(new Set((await receiver.received()).map(({ headers }) => headers['webhook-id'])).size).toBe(1)
})

it('the hub writes rejections into D1 a minute after they came', async () => {
  const { admin, bridge, hub } = await makeOwnBridge()
  const products = await admin.call('GET', '/api/v1/products')
  const made = await admin.call('POST', '/api/v1/devices', {
    productId: products.body.items[0].id,
    number: 'n1',
  })
  const device = { id: made.body.id, number: 'n1', token: made.body.accessToken }
  await bridge.post([says(device, 'ota/device/inform', 'nonsense')])
  const written = () =>
    env.DB.prepare('SELECT total FROM rejections WHERE device_id = ?').bind(device.id).first('total')
  moveClock(50_000)
  await untilQuiet(hub)
  expect(await written()).toBeNull()
  moveClock(11_000)
  await untilQuiet(hub)
  expect(await written()).toBe(1)
})
