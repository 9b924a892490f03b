import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { afterEach, expect, it } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import { hubName, hubStub } from '../../../src/hub/hub.ts'
import type { BridgeHub } from '../../../src/hub/hub-object.ts'
import { type Client, makeClient } from '../api.ts'
import { type LabDevice, makeLab, progresses, reports } from '../lab.ts'
import type { Item } from '../lab-bridge.ts'
import { moveClock, until } from '../lab-clock.ts'

// Of several bridges with one name, one is active (src/hub/lease.ts).

interface Replica {
  frames: { t: string; number?: number; active?: boolean }[]
  /** The hub's latest message about the lease. */
  lease: () => { number: number; active: boolean } | undefined
  isClosed: () => boolean
  send: (frame: object) => void
  close: (code?: number) => void
}

const sockets: WebSocket[] = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close(1000)
})

async function open(client: Client): Promise<Replica> {
  const response = await exports.default.fetch('http://edge-ota.test/bridge/v1/socket', {
    headers: { upgrade: 'websocket', authorization: `Bearer ${client.key}` },
  })
  const socket = response.webSocket!
  socket.accept()
  sockets.push(socket)
  const frames: Replica['frames'] = []
  let closed = false
  socket.addEventListener('message', ({ data }) => {
    if (data !== PONG) frames.push(JSON.parse(data as string))
  })
  socket.addEventListener('close', () => {
    closed = true
  })
  return {
    frames,
    lease: () => {
      const last = frames.findLast(({ t }) => t === 'lease')
      return last && { number: last.number!, active: last.active! }
    },
    isClosed: () => closed,
    send: (frame) => socket.send(JSON.stringify(frame)),
    close: (code = 1000) => socket.close(code),
  }
}
const PONG = '{"t":"pong"}'

async function greet(client: Client, instance: string, bridge = 'default'): Promise<Replica> {
  const replica = await open(client)
  replica.send({ v: 1, t: 'hello', bridge, instance, credit: 10 })
  return replica
}

const untilLease = (replica: Replica, lease: { number: number; active: boolean }) =>
  until(`the lease is ${JSON.stringify(lease)}`, () => {
    const last = replica.lease()
    return last?.number === lease.number && last.active === lease.active
  })

async function newBridge() {
  const client = await makeClient('bridge', newId('ten'), 'default')
  const stub = hubStub(env, hubName(client.tenantId, 'default'))
  const ring = () => runDurableObjectAlarm(stub)
  const alarmAt = () => runInDurableObject(stub, (_: BridgeHub, { storage }) => storage.getAlarm())
  return { client, stub, ring, alarmAt }
}

it('the first bridge of a name becomes active, and the second stands by', async () => {
  const { client, stub } = await newBridge()
  const first = await greet(client, 'one')
  await untilLease(first, { number: 1, active: true })
  const second = await greet(client, 'two')
  await untilLease(second, { number: 1, active: false })
  expect(await stub.status()).toMatchObject({ connected: true, standbys: 1, credit: 10 })
})

it('a bridge that begins a new spool takes the next lease on its own socket, and silences are counted anew', async () => {
  const { client, stub } = await newBridge()
  const bridge = await greet(client, 'old-spool')
  await untilLease(bridge, { number: 1, active: true })
  await moveClock(20_000)
  const at = Date.now()
  bridge.send({ v: 1, t: 'hello', bridge: 'default', instance: 'new-spool', credit: 10 })
  await untilLease(bridge, { number: 2, active: true })
  expect(bridge.isClosed()).toBe(false)
  expect((await stub.handedOver()).steadySince).toBeGreaterThanOrEqual(at)
})

it('the lease passes on at once if its holder says goodbye', async () => {
  const { client } = await newBridge()
  const first = await greet(client, 'one')
  await untilLease(first, { number: 1, active: true })
  const second = await greet(client, 'two')
  await untilLease(second, { number: 1, active: false })
  first.send({ v: 1, t: 'bye' })
  await untilLease(second, { number: 2, active: true })
})

it('a holder whose connection broke has 15 s to come back and keeps its lease', async () => {
  const { client, alarmAt } = await newBridge()
  const first = await greet(client, 'one')
  await untilLease(first, { number: 1, active: true })
  const second = await greet(client, 'two')
  await untilLease(second, { number: 1, active: false })
  const brokeAt = Date.now()
  first.close(4000)
  await until('the first bridge is disconnected', first.isClosed)
  const at = (await alarmAt())!
  expect(at).toBeGreaterThanOrEqual(brokeAt + 14_000)
  expect(at).toBeLessThanOrEqual(Date.now() + 15_000)
  const again = await greet(client, 'one')
  await untilLease(again, { number: 1, active: true })
  expect(second.lease()).toEqual({ number: 1, active: false })
})

it('the lease passes on if its holder is silent for 15 s, and the old holder is told', async () => {
  const { client, ring } = await newBridge()
  const first = await greet(client, 'one')
  await untilLease(first, { number: 1, active: true })
  const second = await greet(client, 'two')
  await untilLease(second, { number: 1, active: false })
  moveClock(14_000)
  await ring()
  expect(second.lease()).toEqual({ number: 1, active: false })
  moveClock(2_000)
  await ring()
  await untilLease(second, { number: 2, active: true })
  await untilLease(first, { number: 2, active: false })
  const again = await greet(client, 'one')
  await untilLease(again, { number: 2, active: false })
})

it('the hub sends frames to the active bridge only', async () => {
  const { client, stub } = await newBridge()
  const first = await greet(client, 'one')
  await untilLease(first, { number: 1, active: true })
  const second = await greet(client, 'two')
  await untilLease(second, { number: 1, active: false })
  await stub.reply('topic', 'text')
  await until('the active bridge has the reply', () => first.frames.some(({ t }) => t === 'reply'))
  expect(second.frames.some(({ t }) => t === 'reply')).toBe(false)
})

it("a bridge that gives another name than its key's is disconnected", async () => {
  const { client, stub } = await newBridge()
  const other = await greet(client, 'one', 'other')
  await until('the bridge is disconnected', other.isClosed)
  expect(await stub.status()).toMatchObject({ connected: false, credit: 0 })
})

it('the hub takes no upTo from a bridge that stands by', async () => {
  const { client, stub, ring } = await newBridge()
  const first = await greet(client, 'one')
  await untilLease(first, { number: 1, active: true })
  await greet(client, 'two')
  moveClock(16_000)
  await ring()
  const body = { bridge: 'default', items: [], upTo: Date.now() }
  const late = await client.call('POST', '/bridge/v1/messages', { ...body, lease: 1 })
  expect(late.body).toMatchObject({ results: [], lease: 2 })
  expect((await stub.handedOver()).upTo).toBe(0)
  await client.call('POST', '/bridge/v1/messages', { ...body, lease: 2 })
  expect((await stub.handedOver()).upTo).toBe(body.upTo)
})

it('messages that a replaced bridge still held are taken, but change nothing that is newer', async () => {
  const lab = await makeLab(2)
  const [device, other] = lab.devices as [LabDevice, LabDevice]
  const task = await lab.upgradeTo('v2.0.0')
  for (const each of lab.devices) await lab.push(each)
  const hand = async (items: Item[]) => {
    const { body } = await lab.bridge.client.call('POST', '/bridge/v1/messages', {
      bridge: 'default',
      lease: 2,
      items: items.map((item, n) => ({ ...item, id: `x${n}` })),
    })
    expect(body.results.map(({ status }: { status: string }) => status)).toEqual(items.map(() => 'taken'))
  }
  await hand([
    { ...reports(device, 'v1.0.0'), lease: 2, seq: 5 },
    { ...progresses(device, 60), lease: 2, seq: 6 },
  ])
  await hand([
    { ...reports(device, 'v0.9.0'), lease: 1, seq: 100 },
    { ...progresses(device, 30), lease: 1, seq: 101 },
    { kind: 'presence', event: 'connected', username: device.token, lease: 1, seq: 102 },
    { ...progresses(other, 40), lease: 1, seq: 103 },
    { ...progresses(device, 60), lease: 2, seq: 6 },
  ])
  const seen = await task.device(device)
  expect(seen).toMatchObject({ status: 'upgrading', step: 60 })
  const kinds: string[] = seen.events.map(({ kind }: { kind: string }) => kind)
  expect(kinds.filter((kind) => kind === 'progress')).toHaveLength(1)
  expect(kinds.slice(-2)).toEqual(['late version', 'late progress'])
  // Nothing newer is known of the other device.
  expect(await task.device(other)).toMatchObject({ step: 40 })
  const { modules, online } = (await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).body
  expect(modules).toMatchObject([{ module: 'default', version: 'v1.0.0' }])
  expect(online).not.toBe(true)
})
