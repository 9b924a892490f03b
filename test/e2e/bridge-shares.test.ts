import { connect as tcpConnect } from 'node:net'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Bridge } from '../../bridge/bridge.ts'
import { OVER_SHARE } from '../../src/protocol/bridge.ts'
import { type BridgeFixture, bridgeFixture, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'
import { PUBACK, publishPacket, type RawClient, rawClient, SUBACK, subscribePacket } from './raw-mqtt.ts'

// One device takes more than its share of the embedded broker, and the others must not notice.

let f: BridgeFixture
const clients: RawClient[] = []
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy()
  await f.end()
})

const PROGRESS = 'ota/device/progress'
const NOISE = 2_000
const HONEST = 20
/** So few that hardly one comes back while a test runs. */
const SCARCE = { perMinute: 1, atOnce: 50 }
const SERVER_UNAVAILABLE = 3
const qos1 = { qos: 1 as const }

const messagesOf = (username: string) =>
  f.worker.taken.flatMap((item) => (item.kind === 'message' && item.username === username ? [item] : []))

async function raw(bridge: Bridge, username: string, password = '', clientId = `${clients.length}`) {
  const client = rawClient(bridge.mqttPort!, { clientId, username, password })
  clients.push(client)
  return { ...client, code: await client.connack }
}

/** Writes all at once and waits for no answer. */
async function makeNoise(bridge: Bridge, topic: string, payload: string) {
  f.worker.users.set('noisy', '')
  const noisy = await raw(bridge, 'noisy')
  noisy.socket.write(
    Buffer.concat(Array.from({ length: NOISE }, (_, n) => publishPacket((n % 65_535) + 1, topic, payload))),
  )
  return noisy
}

async function honestDevicesSay(bridge: Bridge, each: number) {
  const names = Array.from({ length: HONEST }, (_, n) => `honest-${n}`)
  for (const name of names) f.worker.users.set(name, '')
  await Promise.all(
    names.map(async (name) => {
      const device = await f.device(bridge, name)
      for (let n = 0; n < each; n++) await device.publishAsync(PROGRESS, `{"step":${n + 1}}`, qos1)
    }),
  )
  await until('all of the honest', () => names.every((name) => messagesOf(name).length === each))
}

it.each([
  ['progress', PROGRESS, '{"step":1}', 'messages'],
  ['version reports', 'ota/device/inform', '{"params":{"version":"v1"}}', 'messages'],
  ['requests', 'ota/device/request', '{"id":"1"}', 'requests'],
])(
  'a device that floods with %s gets its share acknowledged and no more, and every message of the others arrives',
  async (_what, topic, payload, share) => {
    const bridge = await f.start({ shares: { messages: SCARCE, requests: SCARCE } })
    const noisy = await makeNoise(bridge, topic, payload)
    await honestDevicesSay(bridge, 10)
    await until('its share', () => messagesOf('noisy').length >= SCARCE.atOnce)
    expect(messagesOf('noisy').length).toBeLessThan(SCARCE.atOnce + 10)
    expect(noisy.count(PUBACK)).toBeLessThan(SCARCE.atOnce + 10)
    expect(bridge.stats().shares![share]).toBeGreaterThan(100)
  },
)

it('what is over the share is acknowledged when its turn comes, in order', async () => {
  const bridge = await f.start({ shares: { messages: { perMinute: 60_000, atOnce: 10 } } })
  const device = await f.device(bridge, 'dev-1')
  const texts = Array.from({ length: 100 }, (_, n) => `{"step":${n}}`)
  await Promise.all(texts.map((text) => device.publishAsync(PROGRESS, text, qos1)))
  await until('all', () => messagesOf('dev-1').length === 100)
  expect(messagesOf('dev-1').map(textOf)).toEqual(texts)
  expect(bridge.stats().shares!.messages).toBeGreaterThan(0)
})

it('a device that floods with subscriptions is heard only as often as its share allows', async () => {
  f.worker.users.set('noisy', '')
  const bridge = await f.start({ shares: { messages: SCARCE } })
  const noisy = await raw(bridge, 'noisy')
  const isHeldBack = () => Boolean(bridge.stats().shares?.messages)
  for (let n = 1; n <= 500 && !isHeldBack(); n++) {
    noisy.socket.write(subscribePacket(n, ownTopic('noisy')))
    await until('the answer', () => noisy.count(SUBACK) === n || isHeldBack())
  }
  await honestDevicesSay(bridge, 1)
  await until('all to be handed over', () => bridge.stats().spool!.depth === 0)
  const subscribed = f.worker.taken.filter((item) => item.kind === 'presence' && item.event === 'subscribed')
  expect(subscribed.length).toBeLessThan(SCARCE.atOnce + 10)
})

it('one token holds only so many connections, of which the newest work', async () => {
  f.worker.users.set('greedy', '')
  const bridge = await f.start({ maxConnections: 40, shares: { connections: 4 } })
  const all: (RawClient & { code: number | undefined })[] = []
  for (let n = 0; n < 50; n++) all.push(await raw(bridge, 'greedy'))
  expect(all.every(({ code }) => code === 0)).toBe(true)
  await until('the older to be closed', () => all.filter((client) => !client.isClosed()).length === 4)
  expect(all.slice(-4).every((client) => !client.isClosed())).toBe(true)
  await honestDevicesSay(bridge, 1)
})

it('a token that connects too often is told "server unavailable", and no other is', async () => {
  f.worker.users.set('hasty', '')
  const bridge = await f.start({ shares: { connects: { perMinute: 1, atOnce: 5 } } })
  const codes: (number | undefined)[] = []
  for (let n = 0; n < 8; n++) codes.push((await raw(bridge, 'hasty')).code)
  expect(codes).toEqual([0, 0, 0, 0, 0, ...Array(3).fill(SERVER_UNAVAILABLE)])
  await honestDevicesSay(bridge, 1)
  expect(bridge.stats().shares!.connections).toBe(3)
})

it('strangers who only open connections do not keep devices out', async () => {
  const bridge = await f.start({ maxConnections: HONEST })
  const strangers = Array.from({ length: HONEST }, () => tcpConnect(bridge.mqttPort!, '127.0.0.1'))
  for (const stranger of strangers) stranger.on('error', () => {})
  await Promise.all(strangers.map((stranger) => new Promise((resolve) => stranger.once('connect', resolve))))
  await honestDevicesSay(bridge, 1)
  for (const stranger of strangers) stranger.destroy()
})

it('one device fills only its share of the spool, and all that was acknowledged arrives', async () => {
  const bridge = await f.start({ spoolMaxBytes: 1024 * 1024, shares: { spoolPercent: 20 } })
  f.worker.users.set('noisy', '')
  const noisy = await raw(bridge, 'noisy')
  const honest = await f.device(bridge, 'honest')
  await until('the hub', () => f.worker.batches.length > 0)
  f.worker.away = true
  const large = JSON.stringify({ step: 1, desc: 'x'.repeat(6_000) })
  for (let n = 1; n <= 400; n++) noisy.socket.write(publishPacket(n, PROGRESS, large))
  await until('its share', () => bridge.stats().shares!.spool! > 0)
  await honest.publishAsync(PROGRESS, '{"step":1}', qos1)
  expect(bridge.stats().spool!.bytes).toBeLessThan(512 * 1024)
  f.worker.away = false
  await until('all', () => messagesOf('noisy').length === 400 && messagesOf('honest').length === 1)
})

it('what the Worker takes no more of for now does not hold back the others, or what is known of them', async () => {
  const bridge = await f.start({ timing: { upToIntervalMs: 50 } })
  f.worker.judge = (item) => ('username' in item && item.username === 'noisy' ? 'retry' : 'taken')
  f.worker.codeOfRetry = OVER_SHARE
  const noisy = await f.device(bridge, 'noisy')
  await noisy.publishAsync(PROGRESS, '{"step":1}', qos1)
  await until('it to be refused', () => bridge.stats().uplink!.overShare! > 0)
  const from = Date.now()
  await until('upTo to go on', () => f.worker.batches.some(({ upTo }) => (upTo ?? 0) > from))
  await honestDevicesSay(bridge, 1)
  f.worker.judge = () => 'taken'
  await until('the message', () => messagesOf('noisy').length === 1)
})

it('wrong passwords of an address are verified ever more slowly, and the right ones are let in all the same', async () => {
  f.worker.users.set('guessed', 'right')
  f.worker.users.set('neighbour', 'its own')
  const bridge = await f.start({ maxConnections: 1_000 })
  await f.device(bridge, 'first')
  const guesses = Array.from({ length: 200 }, (_, n) =>
    rawClient(bridge.mqttPort!, { clientId: `g${n}`, username: 'guessed', password: `guess ${n}` }),
  )
  clients.push(...guesses)
  await until('most to be refused', () => bridge.stats().guesses!.guesses! >= 150)
  expect(bridge.stats().broker!.denied).toBeLessThan(20)
  expect((await raw(bridge, 'neighbour', 'its own')).code).toBe(0)
  await honestDevicesSay(bridge, 1)
  for (const { socket } of guesses) socket.destroy()
  const right = async () => (await raw(bridge, 'guessed', 'right')).code
  for (let code = await right(); code !== 0; code = await right()) expect(code).toBe(SERVER_UNAVAILABLE)
})

it('/healthz and the metrics say that a device is over its share, and name no device', async () => {
  const bridge = await f.start({
    health: { host: '127.0.0.1', port: 0 },
    shares: { messages: SCARCE },
  })
  const ask = async (path: string) => (await fetch(`http://127.0.0.1:${bridge.healthPort}${path}`)).text()
  await makeNoise(bridge, PROGRESS, '{"step":1}')
  await until('the noise', () => bridge.stats().shares!.messages! > 0)
  const health = JSON.parse(await ask('/healthz'))
  expect(health).toMatchObject({ status: 'ok', shares: { state: 'limiting', devices: 1 } })
  const metrics = await ask('/metrics')
  expect(metrics).toMatch(/edge_ota_bridge_over_share_total\{what="message"\} [1-9]/)
  expect(metrics).toContain('edge_ota_bridge_devices_over_share 1')
  expect(metrics).not.toContain('noisy')
})
