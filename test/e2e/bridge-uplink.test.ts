import { afterEach, beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import { openSpool } from '../../bridge/spool.ts'
import type { BatchItem } from '../../src/protocol/bridge.ts'
import { type BridgeFixture, bridgeFixture, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

let f: BridgeFixture
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(() => f.end())

const PROGRESS = 'ota/device/progress'
const qos1 = { qos: 1 as const }
const texts = (items: BatchItem[], username?: string) =>
  items
    .filter((item) => item.kind === 'message' && (username === undefined || item.username === username))
    .map((item) => textOf(item as { payload: string }))
const numbers = (count: number) => Array.from({ length: count }, (_, at) => String(at))

it("a device's messages are handed over in order, with the publisher from the broker", async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await Promise.all(numbers(300).map((text) => device.publishAsync(PROGRESS, text, qos1)))
  await until('all messages', () => texts(f.worker.taken).length === 300)
  expect(texts(f.worker.taken, 'dev-1')).toEqual(numbers(300))
  expect(f.worker.batches.length).toBeLessThan(100)
  expect(f.worker.taken[0]).toMatchObject({ kind: 'presence', event: 'reset' })
  expect(f.worker.taken[1]).toMatchObject({ kind: 'presence', event: 'connected', username: 'dev-1' })
})

it('messages acknowledged while the Worker is away are in the spool and handed over after a restart', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await until('connected told', () => f.worker.taken.length === 2)
  f.worker.away = true
  await Promise.all(numbers(50).map((text) => device.publishAsync(PROGRESS, text, qos1)))
  await bridge.stop()

  const spool = openSpool(f.spoolFile, { sync: 'normal' })
  const spooled = spool.peek(1_000, 1e9, []).map((item) => JSON.parse(item.json) as BatchItem)
  expect(texts(spooled)).toEqual(numbers(50))
  spool.close()

  f.worker.away = false
  await f.start()
  await until('all messages', () => texts(f.worker.taken).length === 50)
  expect(texts(f.worker.taken)).toEqual(numbers(50))
  expect(new Set(f.worker.taken.map((item) => item.id)).size).toBe(f.worker.taken.length)
})

it('items to be retried are sent again in order, and other devices do not wait for them', async () => {
  const bridge = await f.start()
  const slow = await f.device(bridge, 'slow')
  const quick = await f.device(bridge, 'quick')
  await until('both known', () => f.worker.taken.length === 3)
  let tries = 0
  f.worker.judge = (item) => {
    if (!('username' in item) || item.username !== 'slow') return 'taken'
    if (item.kind === 'message' && textOf(item) === '0') tries++
    return tries > 3 ? 'taken' : 'retry'
  }
  await Promise.all(numbers(5).map((text) => slow.publishAsync(PROGRESS, text, qos1)))
  await quick.publishAsync(PROGRESS, 'q', qos1)
  await until('the quick one', () => texts(f.worker.taken, 'quick').length === 1)
  await until('the slow one', () => texts(f.worker.taken, 'slow').length === 5)
  expect(texts(f.worker.taken, 'slow')).toEqual(numbers(5))
  expect(tries).toBe(4)
})

it('rejected items are dropped', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  f.worker.judge = (item) => (item.kind === 'message' && textOf(item) === 'bad' ? 'rejected' : 'taken')
  for (const text of ['1', 'bad', '2']) await device.publishAsync(PROGRESS, text, qos1)
  await until('the good ones', () => texts(f.worker.taken).length === 2)
  await until('an empty spool', () => bridge.stats().spool?.depth === 0)
  expect(bridge.stats().uplink).toMatchObject({ rejected: 1, dead: 0 })
})

it('the one item that the Worker cannot read is found and put aside', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await until('connected told', () => f.worker.taken.length === 2)
  const isCulprit = (item: BatchItem) => item.kind === 'message' && textOf(item) === '13'
  f.worker.refuse = (items) => (items.some(isCulprit) ? { status: 422 } : undefined)
  await Promise.all(numbers(40).map((text) => device.publishAsync(PROGRESS, text, qos1)))
  await until('the others', () => texts(f.worker.taken).length === 39)
  expect(texts(f.worker.taken)).toEqual(numbers(40).filter((text) => text !== '13'))
  expect(bridge.stats().uplink).toMatchObject({ dead: 1 })
  await bridge.stop()
  const spool = openSpool(f.spoolFile, { sync: 'normal' })
  expect(spool.deadLetters()).toMatchObject([{ reason: 'status 422' }])
  spool.close()
})

it('nothing is put aside if the Worker refuses every batch, even an empty one', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  let refused = 0
  f.worker.refuse = () => {
    refused++
    return { status: 400 }
  }
  await device.publishAsync(PROGRESS, '1', qos1)
  await until('some refusals', () => refused > 8)
  f.worker.refuse = () => undefined
  await until('the message', () => texts(f.worker.taken).length === 1)
  expect(bridge.stats().uplink).toMatchObject({ dead: 0 })
})

it('after 503, 429 and 401 the same batch is sent again, after the time of Retry-After', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await until('connected told', () => f.worker.taken.length === 2)
  const answers = [{ status: 503 }, { status: 429, headers: { 'retry-after': '1' } }, { status: 401 }]
  const seen: string[][] = []
  const timers = vi.spyOn(globalThis, 'setTimeout')
  onTestFinished(() => timers.mockRestore())
  /** How many timers had been set at each batch. */
  const at: number[] = []
  f.worker.refuse = (items) => {
    seen.push(items.map((item) => item.id))
    at.push(timers.mock.calls.length)
    return answers.shift()
  }
  await device.publishAsync(PROGRESS, '1', qos1)
  await until('the message', () => texts(f.worker.taken).length === 1)
  expect(seen.length).toBe(4)
  expect(new Set(seen.map((ids) => ids.join())).size).toBe(1)
  const waits = (from: number) => timers.mock.calls.slice(at[from], at[from + 1]).map(([, ms]) => ms)
  expect(waits(0)).not.toContain(1000)
  expect(waits(1)).toContain(1000)
})

it('`upTo` is sent from the second batch on, also when idle, and only grows', async () => {
  await f.start({ timing: { upToIntervalMs: 30 } })
  await until('some batches', () => f.worker.batches.length >= 6)
  const [first, ...rest] = f.worker.batches.map((batch) => batch.upTo)
  expect(first).toBeUndefined()
  for (const upTo of rest) expect(upTo).toBeLessThanOrEqual(f.worker.now())
  expect(rest.toSorted((a, b) => a! - b!)).toEqual(rest)
  expect(rest.at(-1)).toBeGreaterThan(rest[0]!)
})

it('`upTo` never passes a message that the Worker has not taken', async () => {
  const bridge = await f.start({ timing: { upToIntervalMs: 30 } })
  const device = await f.device(bridge, 'slow')
  await until('time known', () => f.worker.batches.some((batch) => batch.upTo !== undefined))
  f.worker.judge = (item) => (item.kind === 'message' ? 'retry' : 'taken')
  await device.publishAsync(PROGRESS, '1', qos1)
  const withIt = () => f.worker.batches.filter((batch) => texts(batch.items).length > 0)
  await until('some tries', () => withIt().length > 3)
  const arrived = withIt()[0]!.items.find((item) => item.kind === 'message')!.at!
  const from = f.worker.batches.indexOf(withIt()[0]!)
  for (const { upTo } of f.worker.batches.slice(from)) expect(upTo).toBeLessThanOrEqual(arrived)
  f.worker.judge = () => 'taken'
  await until('upTo goes on', () => f.worker.batches.at(-1)!.upTo! > arrived)
})

it('messages are not acknowledged while the spool is full, and are once it has room', async () => {
  const bridge = await f.start({ spoolMaxBytes: 2_000 })
  const device = await f.device(bridge, 'dev-1')
  await until('connected told', () => f.worker.taken.length === 2)
  f.worker.away = true
  const acknowledged: string[] = []
  const all = numbers(60).map((text) =>
    device.publishAsync(PROGRESS, text, qos1).then(() => acknowledged.push(text)),
  )
  await until('a full spool', () => bridge.stats().spool!.bytes! >= 2_000 && acknowledged.length > 0)
  expect(acknowledged.length).toBeLessThan(60)
  f.worker.away = false
  await Promise.all(all)
  await until('all messages', () => texts(f.worker.taken).length === 60)
  expect(texts(f.worker.taken)).toEqual(numbers(60))
})

it('a bridge that stops hands over its spool', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await device.publishAsync(PROGRESS, 'last', qos1)
  await bridge.stop()
  expect(texts(f.worker.taken)).toEqual(['last'])
  expect(f.worker.taken.at(-1)).toMatchObject({ kind: 'presence', event: 'reset' })
})
