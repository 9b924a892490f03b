import { afterEach, beforeEach, expect, it } from 'vitest'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

// What the Worker answers is not always what it should be: a proxy on the way, a fault, somebody else's server.

let f: BridgeFixture
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(() => f.end())

const start = () => f.start({ timing: { upToIntervalMs: 20, leaseWaitMs: 100 } })
const messages = () => f.worker.taken.flatMap((item) => (item.kind === 'message' ? [textOf(item)] : []))

const NO_CLOCKS = [
  1e300,
  -1,
  0,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  '1767225600000',
  null,
  Date.UTC(1999),
  Date.UTC(9999),
  true,
  [1],
]

it.each(NO_CLOCKS.map((clock) => [JSON.stringify(clock), String(clock), clock]))(
  'a Worker whose clock says %s (%s) is not believed, and what it took is sent again',
  async (_sent, _meant, clock) => {
    const bridge = await start()
    const device = await f.device(bridge, 'dev-1')
    await until('a first upTo', () => f.worker.batches.some(({ upTo }) => upTo !== undefined))
    f.worker.now = () => clock as number
    await device.publishAsync('ota/device/progress', 'while it is wrong', { qos: 1 })
    // Also in the frame that greets each new socket.
    for (const socket of f.worker.sockets) socket.terminate()
    await until('it to be tried again', () => messages().length >= 2)
    const from = f.worker.batches.length
    f.worker.now = () => Date.now()
    await device.publishAsync('ota/device/progress', 'after', { qos: 1 })
    await until('the rest', () => messages().includes('after'))
    await until('more batches', () => f.worker.batches.length > from + 5)
    const upTos = f.worker.batches.flatMap(({ upTo }) => upTo ?? [])
    expect(upTos.every((upTo, at) => upTo <= Date.now() && upTo >= (upTos[at - 1] ?? 0))).toBe(true)
    for (const { at } of f.worker.taken)
      expect(at === undefined || Math.abs((at as number) - Date.now()) < 600_000).toBe(true)
    expect(f.worker.batches.at(-1)!.upTo).toBeGreaterThan(upTos[0]!)
  },
)

const NO_LEASES = [1e300, -1, 1.5, Number.NaN, '7', 2 ** 40, Number.MAX_SAFE_INTEGER]

it.each(NO_LEASES.map((number) => [String(number), number]))(
  'a lease with the number %s is forgotten, in an answer and in a frame',
  async (_name, number) => {
    const bridge = await start()
    await until('its lease', () => f.worker.batches.some(({ lease }) => lease === 1))
    f.worker.lease = { number: number as number, active: true }
    f.worker.send({ t: 'lease', ...f.worker.lease })
    const from = f.worker.batches.length
    await until('answers with it', () => f.worker.batches.length > from + 2)
    f.worker.lease = { number: 1, active: true }
    const device = await f.device(bridge, 'dev-1')
    await device.publishAsync('ota/device/progress', 'after', { qos: 1 })
    await until('the message', () => messages().includes('after'))
    expect([f.worker.batches.at(-1)!.lease, f.worker.taken.at(-1)!.lease]).toEqual([1, 1])
    expect([bridge.isActive(), bridge.stats().hub!.unreadable]).toEqual([true, 1])
  },
)

it('a frame out of range publishes nothing, is counted, and the next one counts', async () => {
  const bridge = await start()
  const heard: string[] = []
  const device = await f.device(bridge, 'dev-1', {}, heard)
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  const good = notice(1, 'dev-1')
  const bad: object[] = [
    { ...good, expiresInSeconds: 1e300 },
    { ...good, expiresInSeconds: '60' },
    { ...good, topic: 'x'.repeat(70_000) },
    { ...good, topic: '' },
    { ...good, username: '' },
    { ...good, payload: 'x'.repeat(2_000_000) },
    { ...good, notice: { ...good.notice, id: '1e9' } },
  ]
  for (const item of bad) f.worker.send({ t: 'notices', items: [item] })
  f.worker.send({ t: 'notices', items: Array.from({ length: 1_001 }, () => good) })
  f.worker.send({ t: 'drop', username: '#' })
  f.worker.send({ t: 'welcome', now: 1e300 })
  await until('all to be counted', () => bridge.stats().hub!.unreadable === bad.length + 3)
  f.worker.notices(notice(2, 'dev-1'))
  await until('the good one', () => heard.length > 0)
  expect(heard).toEqual([notice(2, 'dev-1').payload])
})
