import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { expect, it, onTestFinished, vi } from 'vitest'
import { hubName } from '../../../src/hub/hub.ts'
import type { BridgeHub } from '../../../src/hub/hub-object.ts'
import { MAX_REJECTIONS } from '../../../src/hub/rejections.ts'
import { LEASE_MS } from '../../../src/protocol/bridge.ts'
import { makeClient } from '../api.ts'
import { type Lab, type LabDevice, makeLab } from '../lab.ts'
import { moveClock, until } from '../lab-clock.ts'
import { withoutTable } from '../without-table.ts'

// Rejected messages on their way from a hub to D1, which takes 2,000,000 bytes as one parameter.

const KILOBYTE = 1024

function hubOf({ admin }: Pick<Lab, 'admin'>) {
  const stub = env.BRIDGE_HUB.getByName(hubName(admin.tenantId, 'default'))
  const inside = <T>(look: (storage: DurableObjectStorage) => T | Promise<T>): Promise<T> =>
    runInDurableObject(stub, (_: BridgeHub, { storage }) => look(storage))
  const keep = (devices: LabDevice[], payload: string) =>
    runInDurableObject(stub, (hub: BridgeHub) =>
      hub.keepRejections(devices.map((device) => batchOf(device, payload))),
    )
  const batchOf = ({ id: deviceId }: LabDevice, payload: string) => ({
    deviceId,
    tenantId: admin.tenantId,
    total: MAX_REJECTIONS,
    items: Array.from({ length: MAX_REJECTIONS }, (_, n) => ({
      at: 1000 - n,
      topic: 'ota/device/inform',
      payload,
      code: 'not_json' as const,
      reason: 'not JSON',
      key: `${deviceId} ${n}`,
    })),
  })
  const countPending = () => inside(({ kv }) => [...kv.list({ prefix: 'rejections/' })].length)
  const ring = () => runDurableObjectAlarm(stub)
  return { inside, keep, countPending, ring, alarmAt: () => inside((storage) => storage.getAlarm()) }
}

const writtenOf = ({ admin }: Lab) =>
  env.DB.prepare('SELECT count(*) AS devices, sum(total) AS total FROM rejections WHERE tenant_id = ?')
    .bind(admin.tenantId)
    .first()

function quiet() {
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  onTestFinished(() => logged.mockRestore())
  return logged
}

it('rejected messages of many devices, six times as long as JSON, are all written', async () => {
  const lab = await makeLab(100)
  const hub = hubOf(lab)
  // 12 MB as JSON.
  await hub.keep(lab.devices, '\u0001'.repeat(KILOBYTE))
  moveClock(61_000)
  await until('all are written', async () => {
    await hub.ring()
    return (await hub.countPending()) === 0
  })
  expect(await writtenOf(lab)).toEqual({ devices: 100, total: 100 * MAX_REJECTIONS })
  const { body } = await lab.admin.call('GET', `/api/v1/devices/${lab.devices[0]!.id}/rejections`)
  expect(body.items).toHaveLength(MAX_REJECTIONS)
})

it('messages that D1 refuses for good hold up nobody else, and still count', async () => {
  const lab = await makeLab(20)
  const hub = hubOf(lab)
  const logged = quiet()
  await env.DB.exec(
    `CREATE TRIGGER refused BEFORE INSERT ON rejections WHEN NEW.items LIKE '%poison%' BEGIN SELECT raise(ABORT, 'refused'); END`,
  )
  const poisonous = lab.devices[3]!
  await hub.keep(
    lab.devices.filter((device) => device !== poisonous),
    'fine',
  )
  await hub.keep([poisonous], 'poison')
  moveClock(61_000)
  await hub.ring()
  await env.DB.exec('DROP TRIGGER refused')
  expect(await hub.countPending()).toBe(0)
  expect(await writtenOf(lab)).toEqual({ devices: 20, total: 20 * MAX_REJECTIONS })
  expect(logged.mock.calls.join()).toContain('hub.rejections_refused')
  const { body } = await lab.admin.call('GET', `/api/v1/devices/${poisonous.id}/rejections`)
  expect(body).toMatchObject({ total: MAX_REJECTIONS, items: [{ payload: '' }] })
})

it('nothing is lost while D1 takes nothing at all', async () => {
  const lab = await makeLab(3)
  const hub = hubOf(lab)
  quiet()
  await hub.keep(lab.devices, 'text')
  moveClock(61_000)
  await withoutTable('rejections', hub.ring)
  expect(await hub.countPending()).toBe(3)
  moveClock(61_000)
  await hub.ring()
  expect(await writtenOf(lab)).toEqual({ devices: 3, total: 3 * MAX_REJECTIONS })
})

it('a standby takes over in time although rejected messages cannot be written', async () => {
  const lab = await makeLab(2)
  lab.bridge.close()
  const hub = hubOf(lab)
  quiet()
  const client = await makeClient('bridge', lab.admin.tenantId, 'default')
  const open = async (instance: string) => {
    const { webSocket } = await exports.default.fetch('http://edge-ota.test/bridge/v1/socket', {
      headers: { upgrade: 'websocket', authorization: `Bearer ${client.key}` },
    })
    const roles: boolean[] = []
    webSocket!.accept()
    webSocket!.addEventListener('message', ({ data }) => {
      const frame = JSON.parse(data as string)
      if (frame.t === 'lease') roles.push(frame.active)
    })
    webSocket!.send(JSON.stringify({ v: 1, t: 'hello', bridge: 'default', instance, credit: 10 }))
    onTestFinished(() => webSocket!.close(1000))
    return { roles, close: () => webSocket!.close(1000) }
  }
  moveClock(LEASE_MS + 1)
  const holder = await open('one')
  await until('the first one is active', () => holder.roles.at(-1) === true)
  const standby = await open('two')
  await until('the second one waits', () => standby.roles.at(-1) === false)
  const before = Date.now()
  holder.close()
  await until('the hub has seen it', () =>
    hub.inside(({ kv }) => kv.get<{ seenAt: number }>('lease')!.seenAt >= before),
  )
  await hub.keep(lab.devices, 'text')
  await hub.inside(({ kv }) => kv.put('rejectionsAt', 0))
  await withoutTable('rejections', hub.ring)
  expect(await hub.alarmAt()).toBeLessThanOrEqual(Date.now() + LEASE_MS)
  moveClock(LEASE_MS)
  await withoutTable('rejections', hub.ring)
  await until('the second one is active', () => standby.roles.at(-1) === true)
})
