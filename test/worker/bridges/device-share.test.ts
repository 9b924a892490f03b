import { env } from 'cloudflare:workers'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { BridgeHub } from '../../../src/hub/hub-object.ts'
import { MAX_BATCH_ITEMS, MAX_BATCH_ITEMS_OF_DEVICE } from '../../../src/protocol/bridge.ts'
import { UpgradeTask } from '../../../src/tasks/object/task-object.ts'
import { type Lab, type LabDevice, makeLab, progresses, reports, requests } from '../lab.ts'
import { sent, taken } from '../lab-bridge.ts'

// A bridge of another make may hand over whatever a device says.

let lab: Lab
let noisy: LabDevice
let honest: LabDevice
beforeAll(async () => {
  lab = await makeLab(2)
  ;[noisy, honest] = lab.devices as [LabDevice, LabDevice]
})

const modulesOf = async (device: LabDevice) =>
  (
    await env.DB.prepare('SELECT count(*) AS count FROM device_modules WHERE device_id = ?')
      .bind(device.id)
      .first<{ count: number }>()
  )?.count

const statusOf = async () => (await lab.admin.call('GET', `/api/v1/devices/${noisy.id}`)).body

describe('what one device may send through a bridge', () => {
  it('a flood of reports with invented modules becomes 32 rows, and another device in the same batch is heard', async () => {
    for (let batch = 0; batch < 5; batch++) {
      const flood = Array.from({ length: MAX_BATCH_ITEMS - 1 }, (_, n) =>
        reports(noisy, 'v1', `invented-${batch}-${n}`),
      )
      const results = await lab.bridge.post([...flood, reports(honest, `v${batch}`)])
      expect(results.at(-1)?.status).toBe('taken')
    }
    expect(await modulesOf(noisy)).toBe(32)
    expect((await lab.admin.call('GET', `/api/v1/devices/${honest.id}`)).body.modules).toMatchObject([
      { module: 'default', version: 'v4' },
    ])
  })

  it('of one batch a device gets its share, in order; all that follows is to be sent again', async () => {
    const own = await makeLab(1)
    const device = own.devices[0]!
    const flood = Array.from({ length: MAX_BATCH_ITEMS }, (_, n) => reports(device, `v${n}`))
    const results = await own.bridge.post(flood)
    const later = results.slice(MAX_BATCH_ITEMS_OF_DEVICE)
    expect(results.slice(0, MAX_BATCH_ITEMS_OF_DEVICE).every(({ status }) => status === 'taken')).toBe(true)
    expect(later.every(({ status, code }) => status === 'retry' && code === 'over_share')).toBe(true)
    const { body } = await own.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(body.modules).toMatchObject([{ version: `v${MAX_BATCH_ITEMS_OF_DEVICE - 1}` }])
  })

  it('batch after batch, a device is taken no more often than its share, whatever its bridge lets through', async () => {
    const own = await makeLab(2)
    const [first, second] = own.devices as [LabDevice, LabDevice]
    let count = 0
    for (let batch = 0; batch < 30; batch++) {
      const flood = Array.from({ length: 200 }, (_, n) => reports(first, `v${n}`))
      const results = await own.bridge.post([...flood, reports(second, 'v1')])
      count += results.filter(({ status }) => status === 'taken').length - 1
      expect(results.at(-1)?.status).toBe('taken')
    }
    expect(count).toBeGreaterThanOrEqual(3_000)
    expect(count).toBeLessThan(4_500)
  })

  it('a device over its share does not hold back how far the bridge has handed over', async () => {
    const own = await makeLab(1)
    const device = own.devices[0]!
    const upTo = Date.now()
    const flood = Array.from({ length: MAX_BATCH_ITEMS }, () => progresses(device, 5))
    const results = await own.bridge.post(flood, upTo)
    expect(results.some(({ status }) => status === 'retry')).toBe(true)
    const stub = env.BRIDGE_HUB.getByName(`${own.admin.tenantId}/default`) as unknown as BridgeHub
    expect((await stub.handedOver()).upTo).toBe(upTo)
  })

  it('what the bridge says of a notice keeps its place behind the messages of a device over its share', async () => {
    const own = await makeLab(1)
    const device = own.devices[0]!
    const task = await own.upgradeTo('v2')
    const { frame } = await own.bridge.notice(device)
    const flood = Array.from({ length: MAX_BATCH_ITEMS - 2 }, () => reports(device, 'v1'))
    const results = await own.bridge.post([...flood, sent(frame), taken(frame)])
    expect(results.slice(-2).map(({ status }) => status)).toEqual(['retry', 'retry'])
    await own.bridge.publish(frame)
    await task.reaches(device, 'pushed')
  })
})

describe('requests that repeat', () => {
  it('requests of one device in a batch are answered from one look at its task and one call to its hub, each under its id', async () => {
    const own = await makeLab(2)
    const [first, second] = own.devices as [LabDevice, LabDevice]
    const task = await own.upgradeTo('v2', { devices: { ids: [first.id] } })
    await own.push(first)
    await own.bridge.post([progresses(first, 100)])
    await task.reaches(first, 'success')
    const asked = vi.spyOn(UpgradeTask.prototype, 'ask')
    const replied = vi.spyOn(BridgeHub.prototype, 'replyToAll')
    const ids = Array.from({ length: 100 }, (_, n) => String(n + 1))
    const results = await own.bridge.post([
      ...ids.flatMap((id) => [requests(first, id), requests(first, id)]),
      requests(second, '7'),
    ])
    expect(results.every(({ status }) => status === 'taken')).toBe(true)
    expect(asked.mock.calls.map(([questions]) => questions.length)).toEqual([2])
    expect(replied).toHaveBeenCalledTimes(1)
    await own.bridge.flushed()
    const heard = own.bridge.replies.map(({ payload }) => JSON.parse(payload).id)
    expect(heard).toEqual([...ids, '7'])
    asked.mockRestore()
    replied.mockRestore()
  })
})

it('a device that its bridge held back shows it to the operator, at the device', async () => {
  await lab.bridge.post([{ kind: 'limited', username: noisy.token, share: 'messages', times: 1234 }])
  const { body } = await lab.admin.call('GET', `/api/v1/devices/${noisy.id}/rejections`)
  expect(body.items[0]).toMatchObject({
    code: 'over_share_messages',
    reason: 'more messages than its share: held back, 1234 times in a minute',
  })
  expect((await statusOf()).id).toBe(noisy.id)
})
