import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { afterEach, expect, it } from 'vitest'
import { hubName, hubStub } from '../../../src/hub/hub.ts'
import type { BridgeHub } from '../../../src/hub/hub-object.ts'
import { type Client, caller, makeClient, makeTenant } from '../api.ts'
import { moveClock, until } from '../lab-clock.ts'
import { withoutTable } from '../without-table.ts'

// A revoked bridge key ends what was opened with it.

interface Socket {
  frames: { t: string; number?: number; active?: boolean; username?: string }[]
  isClosed: () => boolean
  send: (frame: object | string) => void
}

const opened: WebSocket[] = []
afterEach(() => {
  for (const socket of opened.splice(0)) socket.close(1000)
})

async function open(key: string): Promise<Socket> {
  const response = await exports.default.fetch('http://edge-ota.test/bridge/v1/socket', {
    headers: { upgrade: 'websocket', authorization: `Bearer ${key}` },
  })
  expect(response.status).toBe(101)
  const socket = response.webSocket!
  // A thief does not answer the close frame.
  socket.accept({ allowHalfOpen: true } as never)
  opened.push(socket)
  const frames: Socket['frames'] = []
  let closed = false
  socket.addEventListener('message', ({ data }) => {
    if (data !== '{"t":"pong"}') frames.push(JSON.parse(data as string))
  })
  socket.addEventListener('close', () => {
    closed = true
  })
  const send = (frame: object | string) =>
    socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame))
  return { frames, isClosed: () => closed, send }
}

const hello = (instance: string, bridge = 'default') => ({ v: 1, t: 'hello', bridge, instance, credit: 10 })
const isActive = ({ frames }: Socket) => frames.findLast(({ t }) => t === 'lease')?.active
const becomes = (socket: Socket, active: boolean) =>
  until(`the lease is ${active}`, () => isActive(socket) === active)

/** A tenant with the keys of two bridges of one name. */
async function twoKeys() {
  const admin = await makeTenant()
  const make = async () => {
    const body = { name: 'bridge', role: 'bridge', bridge: 'default' }
    const made = await admin.call('POST', '/api/v1/keys', body)
    return { id: made.body.id as string, key: made.body.key as string }
  }
  const [stolen, own] = [await make(), await make()]
  const stub = hubStub(env, hubName(admin.tenantId, 'default'))
  const revoke = async (by: Client = admin) =>
    expect((await by.call('DELETE', `/api/v1/keys/${stolen.id}`)).status).toBe(204)
  return { admin, stolen, own, stub, revoke }
}

it('a revoked bridge key ends its sockets, and the other bridge has the lease at once', async () => {
  const { stolen, own, stub, revoke } = await twoKeys()
  const thief = await open(stolen.key)
  thief.send(hello('thief'))
  await becomes(thief, true)
  const [silent, bridge] = [await open(stolen.key), await open(own.key)]
  bridge.send(hello('bridge'))
  await becomes(bridge, false)
  await revoke()
  await until('the sockets of the key are closed', () => thief.isClosed() && silent.isClosed())
  await becomes(bridge, true)
  expect(bridge.isClosed()).toBe(false)
  // It leaves the broker to the other one.
  expect(isActive(thief)).toBe(false)
  expect(await stub.status()).toMatchObject({ connected: true, standbys: 0, credit: 10 })
})

it('a revoked bridge receives nothing more and gets no lease, whatever it goes on sending', async () => {
  const { admin, stolen, own, stub, revoke } = await twoKeys()
  const product = await admin.call('POST', '/api/v1/products', { name: 'p' })
  const device = await admin.call('POST', '/api/v1/devices', { productId: product.body.id, number: '1' })
  const thief = await open(stolen.key)
  thief.send(hello('thief'))
  await becomes(thief, true)
  await revoke()
  await until('the socket is closed', thief.isClosed)
  // No other bridge is there to serve the devices.
  expect(isActive(thief)).toBe(true)
  const before = thief.frames.length
  for (const frame of [hello('thief'), { v: 1, t: 'credit', add: 100 }, hello('again'), '{"t":"ping"}']) {
    try {
      thief.send(frame)
    } catch {
      // The platform has closed it wholly.
    }
  }
  await admin.call('POST', `/api/v1/devices/${device.body.id}/rotate-token`)
  await stub.reply('topic', 'secret')
  const bridge = await open(own.key)
  bridge.send(hello('bridge'))
  await becomes(bridge, true)
  expect(await stub.status()).toMatchObject({ connected: true, standbys: 0, credit: 10 })
  expect(thief.frames).toHaveLength(before)
})

it('a revocation finds the sockets of a hub that has lost its memory', async () => {
  const { stolen, own, stub, revoke } = await twoKeys()
  const [thief, silent, bridge] = [await open(stolen.key), await open(stolen.key), await open(own.key)]
  thief.send(hello('thief'))
  await becomes(thief, true)
  bridge.send(hello('bridge'))
  await becomes(bridge, false)
  await evictDurableObject(stub)
  await revoke()
  await until('the sockets of the key are closed', () => thief.isClosed() && silent.isClosed())
  await becomes(bridge, true)
  await evictDurableObject(stub)
  bridge.send({ v: 1, t: 'credit', add: 5 })
  await until('the credit is taken', async () => (await stub.status()).credit === 15)
})

it('a bridge whose key is revoked while it is away leaves no lease behind', async () => {
  const { stolen, own, revoke } = await twoKeys()
  const thief = await open(stolen.key)
  thief.send(hello('thief'))
  await becomes(thief, true)
  const bridge = await open(own.key)
  bridge.send(hello('bridge'))
  await becomes(bridge, false)
  opened[0]!.close(4000)
  await until('the thief is away', thief.isClosed)
  expect(isActive(bridge)).toBe(false)
  await revoke()
  await becomes(bridge, true)
})

it('the keys of the bridges of other names and tenants stay as they are', async () => {
  const [{ stolen, revoke }, other] = [await twoKeys(), await twoKeys()]
  const shared = await makeClient('bridge', null, 'revocation')
  const sockets = [
    [await open(other.stolen.key), 'default'],
    [await open(shared.key), 'revocation'],
  ] as const
  const thief = await open(stolen.key)
  await revoke()
  await until('the socket is closed', thief.isClosed)
  for (const [socket, name] of sockets) {
    socket.send(hello('other', name))
    await becomes(socket, true)
  }
})

it('a key that root revokes ends its sockets too, and so does a repeated revocation', async () => {
  const { stolen, stub, revoke } = await twoKeys()
  const socket = await open(stolen.key)
  // The first call was lost: only D1 knows.
  await env.DB.prepare('UPDATE api_keys SET revoked_at = 1 WHERE id = ?').bind(stolen.id).run()
  await revoke(await makeClient('root', null))
  await until('the socket is closed', socket.isClosed)
  expect(await stub.status()).toMatchObject({ connected: false })
})

it.each([
  ['key', 'UPDATE api_keys SET revoked_at = 1 WHERE id = ?1 AND tenant_id = ?2'],
  ['tenant', 'DELETE FROM tenants WHERE id = ?2 AND ?1 IS NOT NULL'],
])('the hub finds out by itself within a minute that the %s of an open socket is gone', async (_, sql) => {
  const { admin, stolen, own, stub } = await twoKeys()
  const thief = await open(stolen.key)
  thief.send(hello('thief'))
  await becomes(thief, true)
  await env.DB.prepare(sql).bind(stolen.id, admin.tenantId).run()
  const alarmAt = await runInDurableObject(stub, (_: BridgeHub, { storage }) => storage.getAlarm())
  expect(alarmAt).toBeLessThanOrEqual(Date.now() + 60_000)
  moveClock(61_000)
  await runDurableObjectAlarm(stub)
  await until('the socket is closed', thief.isClosed)
  expect(await stub.status()).toMatchObject({ connected: false, credit: 0 })
  const late = await caller(stolen.key)('GET', '/bridge/v1/socket', undefined, { upgrade: 'websocket' })
  expect(late.status).toBe(401)
  expect(own.key).toMatch(/^eota_/)
})

it('the hub ends no socket if it cannot read the keys, and looks again', async () => {
  const { stolen, stub } = await twoKeys()
  const socket = await open(stolen.key)
  socket.send(hello('one'))
  await becomes(socket, true)
  moveClock(61_000)
  await withoutTable('api_keys', () => runDurableObjectAlarm(stub))
  expect(await stub.status()).toMatchObject({ connected: true })
  await env.DB.prepare('UPDATE api_keys SET revoked_at = 1 WHERE id = ?').bind(stolen.id).run()
  moveClock(61_000)
  await runDurableObjectAlarm(stub)
  await until('the socket is closed', socket.isClosed)
})

it('the hub looks at keys at most once a minute, and only while a socket is open', async () => {
  const { own, stub } = await twoKeys()
  const bridge = await open(own.key)
  bridge.send(hello('bridge'))
  await becomes(bridge, true)
  const lookedAt = () =>
    runInDurableObject(stub, (_: BridgeHub, { storage }) => storage.kv.get<number>('keysLookedAt'))
  const first = await lookedAt()
  expect(first).toBeGreaterThan(0)
  moveClock(30_000)
  await runInDurableObject(stub, (hub: BridgeHub) => hub.alarm())
  expect(await lookedAt()).toBe(first)
  opened[0]!.close(1000)
  await until('the bridge is away', async () => !(await stub.status()).connected)
  moveClock(600_000)
  await runInDurableObject(stub, (hub: BridgeHub) => hub.alarm())
  expect(await lookedAt()).toBe(first)
})
