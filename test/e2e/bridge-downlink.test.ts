import { afterEach, beforeEach, expect, it } from 'vitest'
import type { BatchItem, FrameFromBridge } from '../../src/protocol/bridge.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

let f: BridgeFixture
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(() => f.end())

const records = (items: BatchItem[]) =>
  items.flatMap((item) =>
    item.kind === 'sent'
      ? [`sent ${item.notice.id}`]
      : item.kind === 'taken'
        ? [`${item.result} ${item.notice.id}`]
        : [],
  )
const credited = (frames: FrameFromBridge[]) =>
  frames.reduce((sum, frame) => sum + (frame.t === 'credit' ? frame.add : 0), 0)

async function connectedHub() {
  await until('the socket', () => f.worker.credits.length > 0)
}

it('the bridge greets the hub with its credit', async () => {
  await f.start({ credit: 17 })
  await connectedHub()
  expect(f.worker.credits).toEqual([
    { v: 1, t: 'hello', bridge: 'default', instance: expect.any(String), credit: 17 },
  ])
})

it('a notice is recorded as sent before the device has it, then as taken, then its credit is returned', async () => {
  const bridge = await f.start()
  await connectedHub()
  const device = await f.device(bridge, 'dev-1')
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  const heard: { payload: string; spooledBefore: boolean }[] = []
  device.on('message', (_topic, payload) => {
    const { depth } = bridge.stats().spool!
    heard.push({ payload: payload.toString(), spooledBefore: depth! > 0 })
    device.publish('ota/device/progress', '{"step":"0"}', { qos: 1 })
  })
  await until('a quiet spool', () =>
    f.worker.taken.some((item) => item.kind === 'presence' && item.event === 'subscribed'),
  )
  f.worker.away = true // so that the records stay in the spool, where the test reads them
  const frame = notice(1764000001, 'dev-1')
  f.worker.notices(frame)
  await until('the notice', () => heard.length === 1)
  expect(heard).toEqual([{ payload: frame.payload, spooledBefore: true }])
  f.worker.away = false
  await until('the answer', () => f.worker.taken.some((item) => item.kind === 'message'))
  expect(records(f.worker.taken)).toEqual(['sent 1764000001', 'taken 1764000001'])
  const kinds = f.worker.taken.map((item) => item.kind)
  expect(kinds.indexOf('sent')).toBeLessThan(kinds.indexOf('message'))
  await until('credit', () => credited(f.worker.credits) === 1)
})

it('a notice for a device that does not listen is recorded as offline, without `sent`, and is not kept', async () => {
  const bridge = await f.start()
  await connectedHub()
  const device = await f.device(bridge, 'dev-1')
  f.worker.notices(notice(1, 'dev-1'), notice(2, 'nobody'))
  await until('both told', () => records(f.worker.taken).length === 2)
  expect(records(f.worker.taken)).toEqual(['offline 0000000001', 'offline 0000000002'])
  const heard: string[] = []
  device.on('message', (_topic, payload) => heard.push(payload.toString()))
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  f.worker.notices(notice(3, 'dev-1'))
  await until('the third', () => heard.length > 0)
  expect(heard).toEqual([notice(3, 'dev-1').payload])
})

it('a stored session counts as a listener and gets its notice when it resumes', async () => {
  const bridge = await f.start()
  await connectedHub()
  const session = { clientId: 'c1', clean: false }
  const first = await f.device(bridge, 'dev-1', session)
  await first.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  await first.endAsync()
  await until('disconnected', () =>
    f.worker.taken.some((item) => item.kind === 'presence' && item.event === 'disconnected'),
  )
  f.worker.notices(notice(1, 'dev-1'))
  await until('taken', () => records(f.worker.taken).length === 2)
  expect(records(f.worker.taken)).toEqual(['sent 0000000001', 'taken 0000000001'])
  const heard: string[] = []
  await f.device(bridge, 'dev-1', session, heard)
  const subscribed = () =>
    f.worker.taken.filter((item) => item.kind === 'presence' && item.event === 'subscribed').length
  await until('the resumed subscription is told', () => subscribed() === 2)
  expect(heard).toEqual([notice(1, 'dev-1').payload])
})

it('a stored session keeps its last 20 notices, and a username its last 8 sessions', async () => {
  const bridge = await f.start()
  await connectedHub()
  const store = async (clientId: string) => {
    const device = await f.device(bridge, 'dev-1', { clientId, clean: false })
    await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
    await device.endAsync()
  }
  for (let at = 0; at < 10; at++) await store(`c${at}`)
  const ids = Array.from({ length: 30 }, (_, at) => at + 1)
  for (const id of ids) f.worker.notices(notice(id, 'dev-1'))
  await until('all taken', () => credited(f.worker.credits) === 30)
  const latest: string[] = []
  await f.device(bridge, 'dev-1', { clientId: 'c9', clean: false }, latest)
  await until('what is kept', () => latest.length === 20)
  expect(latest).toEqual(ids.slice(10).map((id) => notice(id, 'dev-1').payload))
  const oldest: string[] = []
  const first = await f.device(bridge, 'dev-1', { clientId: 'c0', clean: false }, oldest)
  await first.publishAsync('ota/device/progress', '1', { qos: 1 })
  expect(oldest).toEqual([])
})

it('many notices are published in order and all their credit is returned', async () => {
  const bridge = await f.start({ credit: 200 })
  await connectedHub()
  const device = await f.device(bridge, 'dev-1')
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  const heard: string[] = []
  device.on('message', (_topic, payload) => heard.push(JSON.parse(payload.toString()).id))
  const ids = Array.from({ length: 150 }, (_, at) => at + 1)
  for (let at = 0; at < ids.length; at += 50) {
    f.worker.notices(...ids.slice(at, at + 50).map((id) => notice(id, 'dev-1')))
  }
  await until('all credit', () => credited(f.worker.credits) === 150)
  await until('all notices', () => heard.length === 150)
  expect(heard).toEqual(ids.map(String))
  await until('all records', () => records(f.worker.taken).length === 300)
  const all = records(f.worker.taken)
  for (const id of ids.map((n) => String(n).padStart(10, '0'))) {
    expect(all.indexOf(`sent ${id}`)).toBeLessThan(all.indexOf(`taken ${id}`))
  }
})

it('a repeated notice is published again once it was settled, and ignored while it is in hand', async () => {
  const bridge = await f.start()
  await connectedHub()
  const device = await f.device(bridge, 'dev-1')
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  f.worker.notices(notice(1, 'dev-1'), notice(1, 'dev-1'))
  await until('settled', () => credited(f.worker.credits) === 2)
  await until('records', () => records(f.worker.taken).length === 2)
  f.worker.notices(notice(1, 'dev-1'))
  await until('records again', () => records(f.worker.taken).length === 4)
  expect(bridge.stats().downlink).toMatchObject({ taken: 2, ignored: 1 })
})

it('a reply is published without a record', async () => {
  const bridge = await f.start()
  await connectedHub()
  const device = await f.device(bridge, 'dev-1')
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  const heard: string[] = []
  device.on('message', (_topic, payload) => heard.push(payload.toString()))
  f.worker.send({ t: 'reply', topic: ownTopic('dev-1'), payload: '{"id":"7","code":200,"params":{}}' })
  await until('the reply', () => heard.length === 1)
  expect(records(f.worker.taken)).toEqual([])
})

it('the sessions of a dropped username end, and the Worker is asked before it connects again', async () => {
  const bridge = await f.start()
  await connectedHub()
  const device = await f.device(bridge, 'dev-1', { clientId: 'c1', clean: false })
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  let closed = false
  device.on('close', () => {
    closed = true
  })
  f.worker.users.delete('dev-1')
  f.worker.send({ t: 'drop', username: 'dev-1' })
  await until('the connection to end', () => closed)
  f.worker.users.set('other', '')
  await expect(f.device(bridge, 'dev-1', { clientId: 'c1', password: 'x' })).rejects.toThrow(
    /Bad username or password/i,
  )
  f.worker.notices(notice(1, 'dev-1'))
  await until('offline', () => records(f.worker.taken).length === 1)
  expect(records(f.worker.taken)).toEqual(['offline 0000000001'])
})

it('after a lost socket the bridge connects again with fresh credit and finishes the notices in hand', async () => {
  const bridge = await f.start()
  await connectedHub()
  const device = await f.device(bridge, 'dev-1')
  await device.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  f.worker.notices(notice(1, 'dev-1'))
  for (const socket of f.worker.sockets) socket.terminate()
  await until('a second hello', () => f.worker.credits.filter((frame) => frame.t === 'hello').length === 2)
  await until('a new socket', () => f.worker.sockets.size === 1)
  f.worker.notices(notice(2, 'dev-1'))
  await until('the second notice', () => records(f.worker.taken).includes('taken 0000000002'))
  expect(bridge.stats().hub).toMatchObject({ connects: 2 })
})

it('an unreadable frame is skipped', async () => {
  const bridge = await f.start()
  await connectedHub()
  for (const socket of f.worker.sockets) socket.send('{"v":2,"t":"unknown"}')
  for (const socket of f.worker.sockets) socket.send('not JSON')
  f.worker.notices(notice(1, 'nobody'))
  await until('the notice', () => records(f.worker.taken).length === 1)
  expect(bridge.stats().hub).toMatchObject({ unreadable: 2, connects: 1 })
})

it('notices are given back, unrecorded and unpublished, while the broker is away', async () => {
  await f.start({ mqttUrl: 'mqtt://127.0.0.1:9', timing: { publishWithinMs: 100 } })
  await connectedHub()
  f.worker.notices(notice(1, 'dev-1'), notice(2, 'dev-1'))
  f.worker.notices(notice(3, 'dev-1'))
  await until('all given back', () => credited(f.worker.credits) === 3)
  await until('all told', () => records(f.worker.taken).length === 3)
  expect(records(f.worker.taken)).toEqual([
    'returned 0000000001',
    'returned 0000000002',
    'returned 0000000003',
  ])
  expect(f.worker.batches.every((batch) => batch.upTo === undefined)).toBe(true)
})
