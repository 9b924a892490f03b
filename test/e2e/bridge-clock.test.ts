import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Bridge } from '../../bridge/bridge.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

// The clock of the bridge's machine is wrong, or set while it runs. The Worker's is right.

const HOUR_MS = 3_600_000
const JUMPS = [5, -9, 26, -400_000].map((hours) => hours * HOUR_MS)

let f: BridgeFixture
let workerNow: () => number
beforeEach(async () => {
  const began = Date.now() - performance.now()
  workerNow = () => Math.floor(began + performance.now())
  f = await bridgeFixture()
  f.worker.now = workerNow
})
afterEach(async () => {
  vi.useRealTimers()
  await f.end()
})

const setClock = (by: number) => {
  vi.useFakeTimers({ toFake: ['Date'] })
  vi.setSystemTime(workerNow() + by)
}
const start = () =>
  f.start({ health: { host: '127.0.0.1', port: 0 }, timing: { upToIntervalMs: 20, credentialsPollMs: 50 } })
const messages = () => f.worker.taken.flatMap((item) => (item.kind === 'message' ? [textOf(item)] : []))
const results = () => f.worker.taken.flatMap((item) => (item.kind === 'taken' ? [item.result] : []))

/** Every time that the bridge ever told is one of the Worker's, and `upTo` only grew. */
function expectTrueTimes(from: number): void {
  const upTos = f.worker.batches.flatMap(({ upTo }) => upTo ?? [])
  expect(upTos.length).toBeGreaterThan(0)
  for (const [at, upTo] of upTos.entries()) {
    expect(upTo).toBeGreaterThanOrEqual(upTos[at - 1] ?? from)
    expect(upTo).toBeLessThanOrEqual(workerNow())
  }
  for (const { at } of f.worker.taken) {
    if (at === undefined) continue
    expect(at).toBeGreaterThanOrEqual(from)
    expect(at).toBeLessThanOrEqual(workerNow())
  }
}

it('clock jumps of hours, both ways, end no connection, lose no message, and touch no time that the Worker hears', async () => {
  const from = workerNow()
  const bridge = await start()
  const heard: string[] = []
  const device = await f.device(bridge, 'dev-1', { keepalive: 1 }, heard)
  let isClosed = false
  device.on('close', () => {
    isClosed = true
  })
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  await until('a first upTo', () => f.worker.batches.some(({ upTo }) => upTo !== undefined))
  const sent: string[] = []
  for (const [at, jump] of JUMPS.entries()) {
    setClock(jump)
    const pulls = bridge.stats().credentials!.pulls!
    const before = f.worker.batches.at(-1)!.upTo!
    // A message, a notice, a sign of life on the connection, and somebody new.
    sent.push(`after jump ${at}`)
    await device.publishAsync('ota/device/progress', sent.at(-1)!, { qos: 1 })
    f.worker.notices(notice(at + 1, 'dev-1'))
    await until('the notice', () => heard.length === at + 1)
    await until('its end', () => results().length === at + 1)
    await new Promise((resolve) => device.once('packetreceive', resolve))
    await f.device(bridge, `new-${at}`)
    await until('upTo to go on', () => f.worker.batches.at(-1)!.upTo! > before + 100)
    await until('the credentials to be pulled', () => bridge.stats().credentials!.pulls! > pulls)
  }
  await until('all messages', () => messages().length === sent.length)
  expect(messages()).toEqual(sent)
  expect(results()).toEqual(JUMPS.map(() => 'taken'))
  expect(isClosed).toBe(false)
  expect([bridge.isActive(), f.worker.sockets.size]).toEqual([true, 1])
  expectTrueTimes(from)
  const health = await (await fetch(`http://127.0.0.1:${bridge.healthPort}/healthz`)).json()
  expect(health).toMatchObject({ status: 'ok' })
})

it('messages that wait through an outage keep their time, however the clock is set and the bridge restarted', async () => {
  const from = workerNow()
  let bridge: Bridge = await start()
  await until('a first upTo', () => f.worker.batches.some(({ upTo }) => upTo !== undefined))
  const device = await f.device(bridge, 'dev-1')
  f.worker.away = true
  for (const socket of f.worker.sockets) socket.terminate()
  for (const [at, jump] of JUMPS.entries()) {
    setClock(jump)
    await device.publishAsync('ota/device/progress', `${at}`, { qos: 1 })
  }
  device.end(true)
  await bridge.stop()
  setClock(-9 * HOUR_MS)
  bridge = await start()
  f.worker.away = false
  await until('all of them', () => messages().length === JUMPS.length)
  expect(messages()).toEqual(JUMPS.map((_, at) => `${at}`))
  const last = f.worker.taken.findLast(({ kind }) => kind === 'message')!
  await until('upTo to pass them', () => f.worker.batches.at(-1)!.upTo! > (last.at as number))
  expectTrueTimes(from)
})

it('a step of the clock publishes no will of a device that is connected', async () => {
  const timers = vi.spyOn(globalThis, 'setInterval')
  const bridge = await start()
  const will = {
    topic: 'ota/device/progress',
    payload: Buffer.from('{"step":"-1"}'),
    qos: 1 as const,
    retain: false,
  }
  const device = await f.device(bridge, 'dev-1', { will })
  setClock(5 * HOUR_MS)
  // What happens every few minutes happens now, before any heartbeat in the new time.
  for (const [work, everyMs] of timers.mock.calls) if (everyMs! >= 200_000) (work as () => void)()
  timers.mockRestore()
  await new Promise((resolve) => setTimeout(resolve, 100))
  await device.publishAsync('ota/device/progress', 'still here', { qos: 1 })
  await until('the message', () => messages().includes('still here'))
  expect(messages()).toEqual(['still here'])
})
