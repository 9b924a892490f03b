import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { hubName, hubStub } from '../../../src/hub/hub.ts'
import type { NoticeFrame } from '../../../src/protocol/bridge.ts'
import { type Client, makeClient } from '../api.ts'
import { type LabDevice, makeLab, progresses, reports, subscribes } from '../lab.ts'
import { type Item, makeBridge, sent, taken } from '../lab-bridge.ts'

// A bridge speaks only for devices of its own hub, in every kind of item.

let number = 0
const post = async (bridge: Client, name: string, items: Item[]) => {
  const numbered = items.map((item) => ({ id: `s${++number}`, ...item }))
  const { status, body } = await bridge.call('POST', '/bridge/v1/messages', { bridge: name, items: numbered })
  expect(status).toBe(200)
  return body.results.map(({ status, code }: { status: string; code?: string }) => code ?? status)
}

const everything = (device: LabDevice, frame: NoticeFrame): Item[] => [
  sent(frame),
  taken(frame),
  taken(frame, 'offline'),
  taken(frame, 'returned'),
  reports(device, 'v2'),
  progresses(device, 100),
  progresses(device, -1),
  subscribes(device),
  { kind: 'presence', event: 'connected', username: device.token },
  { kind: 'presence', event: 'disconnected', username: device.token },
]

it.each([
  ['a shared bridge of another name', null, 'eu'],
  ['a shared bridge of the same name', null, 'default'],
  ["another bridge of the tenant's own", 'own', 'eu'],
  ["another tenant's bridge of the same name", 'ten_other', 'default'],
])('%s cannot speak for a device or of its notices', async (_, owner, name) => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2')
  const { frame } = await lab.bridge.notice(device)
  const tenantId = owner === 'own' ? lab.admin.tenantId : owner
  const stranger = await makeClient('bridge', tenantId, name)
  const before = await task.device(device)
  const items = everything(device, frame)
  expect(await post(stranger, name, items)).toEqual(items.map(() => 'unknown_device'))
  // Twice: the hub adds up.
  await post(stranger, name, items)
  const { rejected } = await hubStub(env, hubName(tenantId, name)).status()
  expect(rejected).toEqual({ unknown_device: 2 * items.length })
  expect(await task.device(device)).toEqual(before)
  const { online } = (await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).body
  expect(online).toBeNull()
  await lab.bridge.publish(frame)
  await lab.bridge.post([progresses(device, 100)])
  expect((await task.device(device)).status).toBe('success')
})

it('a reset of another bridge leaves the devices of this one online', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([{ kind: 'presence', event: 'connected', username: device.token }])
  for (const [tenantId, name] of [
    [null, 'eu'],
    [null, 'default'],
    [lab.admin.tenantId, 'eu'],
  ] as const) {
    const stranger = await makeClient('bridge', tenantId, name)
    expect(await post(stranger, name, [{ kind: 'presence', event: 'reset' }])).toEqual(['taken'])
  }
  const { online } = (await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).body
  expect(online).toBe(true)
})

it('a bridge cannot speak of the notice of another task, or with the task of another tenant, for its own device', async () => {
  const [lab, other] = [await makeLab(1), await makeLab(1)]
  const [device] = lab.devices as [LabDevice]
  await lab.upgradeTo('v2')
  const theirs = await other.upgradeTo('v2')
  const { frame } = await lab.bridge.notice(device)
  const forged = { ...frame, notice: { ...frame.notice, task: theirs.id } }
  const unknown = { ...frame, notice: { ...frame.notice, task: 'tsk_none' } }
  const results = await lab.bridge.post([sent(forged), taken(forged), taken(unknown)])
  expect(results.map(({ code }) => code)).toEqual(['unknown_task', 'unknown_task', 'unknown_task'])
  const gone = { ...frame, notice: { ...frame.notice, device: 'dev_none' } }
  expect((await lab.bridge.post([taken(gone)])).map(({ code }) => code)).toEqual(['unknown_device'])
})

it('only its own bridge can say that a device was told of a cancellation', async () => {
  const lab = await makeLab(1, { notifyCancel: true })
  const [device] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  await lab.push(device)
  await lab.bridge.post([progresses(device, 10)])
  await task.post('/cancel')
  const { frame, notice } = await lab.bridge.notice(device)
  expect(notice.code).toBe(410)
  const stranger = await makeClient('bridge', null, 'eu')
  const before = await task.device(device)
  expect(await post(stranger, 'eu', [sent(frame), taken(frame)])).toEqual([
    'unknown_device',
    'unknown_device',
  ])
  expect(await task.device(device)).toEqual(before)
  await lab.bridge.publish(frame)
})

it('a bridge whose product has moved to another one speaks for its devices no more', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  const { frame } = await lab.bridge.notice(device)
  const eu = await makeBridge(lab.admin.tenantId, 'eu')
  await lab.admin.call('PATCH', `/api/v1/products/${lab.productId}`, { bridge: 'eu' })
  const late = await lab.bridge.post([sent(frame), taken(frame), progresses(device, 50)])
  expect(late.map(({ code }) => code)).toEqual(['unknown_device', 'unknown_device', 'unknown_device'])
  expect((await task.device(device)).status).toBe('pending')
  const results = await eu.post([sent(frame), taken(frame), progresses(device, 50)])
  expect(results.map(({ status }) => status)).toEqual(['taken', 'taken', 'taken'])
  expect((await task.device(device)).status).toBe('upgrading')
})
