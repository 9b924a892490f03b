import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { hubName, hubStub } from '../../../../src/hub/hub.ts'
import { taskStub } from '../../../../src/tasks/api/task-stub.ts'
import {
  type Lab,
  type LabDevice,
  type LabTask,
  makeLab,
  outcomeOf,
  progresses,
  reports,
  requests,
  says,
  slotOf,
  subscribes,
} from '../../lab.ts'
import { type Item, sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'
import { withoutTable } from '../../without-table.ts'

let batches = 0

/** Posts the same items, under the same ids, `times` times, and expects the same answer each time. */
async function postAgain(lab: Lab, items: Item[], times = 2) {
  const batch = ++batches
  const numbered = items.map((item, n) => ({ ...item, id: `again-${batch}-${n}`, at: 1_700_000_000_000 }))
  const first = await lab.bridge.post(numbered)
  for (let time = 1; time < times; time++) expect(await lab.bridge.post(numbered)).toEqual(first)
}

/** All that can be seen of a device in a task, in the object and in D1. */
async function stateOf(lab: Lab, task: LabTask, device: LabDevice) {
  await lab.unexpected()
  const counts = (await task.get()).counts
  return {
    counts,
    ...(await task.device(device)),
    slot: await slotOf(device),
    outcome: await outcomeOf(task, device),
  }
}

const ringAlarm = (task: LabTask) => runDurableObjectAlarm(taskStub(env, task.id))

describe('batches that are posted twice', () => {
  it('a batch that is posted again changes nothing, at any point of an upgrade', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await postAgain(lab, [reports(device, 'v1'), subscribes(device)])
    const task = await lab.upgradeTo('v2')
    const first = await lab.bridge.notice(device)
    await postAgain(lab, [sent(first.frame), taken(first.frame), progresses(device, 5)], 3)
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 5, pushes: 1 })
    await postAgain(lab, [reports(device, 'v1')], 4)
    const second = await lab.push(device)
    await postAgain(lab, [
      sent(first.frame),
      taken(first.frame),
      taken(second.frame),
      taken(second.frame, 'offline'),
    ])
    await postAgain(lab, [progresses(device, 50), requests(device, '1')], 3)
    await lab.push(device)
    expect(await lab.unexpected()).toEqual([])
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 50, pushes: 3 })
    const upgraded = [progresses(device, 100), reports(device, 'v1.5')]
    await postAgain(lab, upgraded, 1)
    const before = await stateOf(lab, task, device)
    expect(before).toMatchObject({ status: 'success', rolledBack: true })
    await postAgain(lab, [sent(second.frame), taken(second.frame, 'returned')], 2)
    await ringAlarm(task)
    expect(await stateOf(lab, task, device)).toEqual(before)
    expect(lab.bridge.replies).toEqual([])
  })

  it('a version report that is posted again is counted once, even if its re-push was taken in between', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2', { policy: { mismatchPushes: 1 } })
    await lab.push(device)
    const report = { ...reports(device, 'v1'), id: 'the-same', at: 1_700_000_000_000 }
    await lab.bridge.post([report])
    await lab.push(device)
    await lab.bridge.post([report])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 2 })
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([reports(device, 'v1')])
    expect((await task.device(device)).status).toBe('failure')
  })

  it('an unreadable message that is posted again is one rejection', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await postAgain(lab, [says(device, 'ota/device/inform', 'no JSON')])
    const { body } = await lab.admin.call('GET', `/api/v1/devices/${device.id}/rejections`)
    expect(body).toMatchObject({ total: 1, items: [{ payload: 'no JSON' }] })
  })
})

describe('alarms that ring twice', () => {
  it('an alarm that rings again changes nothing', async () => {
    const lab = await makeLab(3)
    const [first, second] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(first)
    await lab.push(second)
    await lab.bridge.post([progresses(first, -1), progresses(second, 100)])
    const before = await stateOf(lab, task, first)
    const pending = (await lab.unexpected()).length
    await ringAlarm(task)
    await runInDurableObject(taskStub(env, task.id), (object) => object.alarm())
    await runInDurableObject(taskStub(env, task.id), (object) => object.alarm())
    expect(await stateOf(lab, task, first)).toEqual(before)
    expect(await lab.unexpected()).toHaveLength(pending)
  })
})

describe('operators that repeat a call', () => {
  it('a task that is created twice under one Idempotency-Key is one task', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const body = { packageId: await lab.addPackage('v2'), name: 'once', devices: 'all' }
    const key = { 'idempotency-key': 'once-and-only-once' }
    const first = await lab.admin.call('POST', '/api/v1/tasks', body, key)
    const second = await lab.admin.call('POST', '/api/v1/tasks', body, key)
    expect([first.status, second.status]).toEqual([201, 201])
    expect(second.body.id).toBe(first.body.id)
    const listed = await lab.admin.call('GET', `/api/v1/tasks?productId=${lab.productId}`)
    expect(listed.body.items).toHaveLength(1)
    await lab.push(device)
    expect(await lab.unexpected()).toEqual([])
  })

  it('a pause, resume, cancel or retry that is repeated changes nothing', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    for (const verb of ['/pause', '/pause', '/resume', '/resume'])
      expect((await task.post(verb)).status).toBe(200)
    await lab.bridge.post([progresses(device, -1)])
    expect((await task.post('/retry')).body.retried).toBe(1)
    expect((await task.post('/retry')).body).toEqual({ retried: 0, skipped: [] })
    const cancel = `/devices/${device.id}/cancel`
    expect([(await task.post(cancel)).status, (await task.post(cancel)).status]).toEqual([200, 200])
    await lab.unexpected()
    expect((await task.get()).counts).toMatchObject({ total: 1, cancelled: 1, pending: 0 })
  })
})

describe('storage that fails', () => {
  it('a task whose storage fails in a batch gets its messages again and counts each once, and other tasks lose nothing', async () => {
    const lab = await makeLab(2)
    const other = await makeLab(1)
    const [first, second] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(first)
    await lab.push(second)
    const object = taskStub(env, task.id)
    await runInDurableObject(object, (_, { storage }) => {
      storage.sql.exec(
        `CREATE TRIGGER broken BEFORE UPDATE ON devices WHEN NEW.device_id = '${second.id}'
           BEGIN SELECT RAISE(ABORT, 'broken'); END`,
      )
    })
    const part = await lab.upgradeTo('m2', {}, { module: 'MCU' })
    await lab.push(first)
    const items = [
      progresses(first, 100, { module: 'default' }),
      progresses(second, 100, { module: 'default' }),
      progresses(first, 7, { module: 'MCU' }),
      says(first, 'ota/device/inform', 'no JSON'),
    ].map((item, n) => ({ ...item, id: `broken-${n}` }))
    const hub = hubStub(env, hubName(lab.admin.tenantId, 'default'))
    moveClock(1000)
    const upTo = Date.now()
    const statuses = async () => (await lab.bridge.post(items, upTo)).map(({ status }) => status)
    expect(await statuses()).toEqual(['retry', 'retry', 'taken', 'rejected'])
    expect((await hub.handedOver()).upTo).toBeLessThan(upTo)
    expect((await part.device(first)).step).toBe(7)
    expect((await task.get()).counts).toMatchObject({ pushed: 2, success: 0 })
    expect(await statuses()).toEqual(['retry', 'retry', 'taken', 'rejected'])
    await runInDurableObject(object, (_, { storage }) => void storage.sql.exec('DROP TRIGGER broken'))
    expect(await statuses()).toEqual(['taken', 'taken', 'taken', 'rejected'])
    expect((await task.get()).counts).toEqual({
      total: 2,
      pending: 0,
      pushed: 0,
      upgrading: 0,
      success: 2,
      failure: 0,
      cancelled: 0,
    })
    expect((await hub.handedOver()).upTo).toBe(upTo)
    await task.becomes('finished')
    expect((await other.bridge.post([reports(other.devices[0]!, 'v1')]))[0]!.status).toBe('taken')
  })
})

describe('a task that cannot reach the database', () => {
  it('a task that could not reach the database writes its outcomes later by itself', async () => {
    const lab = await makeLab(2)
    const [first, second] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(first)
    await lab.push(second)
    await withoutTable('outcomes', async () => {
      await lab.bridge.post([progresses(first, 100)])
      expect((await task.device(first)).status).toBe('success')
      await lab.unexpected()
      expect(await slotOf(first)).toMatchObject({ active: 1 })
    })
    moveClock(6_000)
    await lab.unexpected()
    expect(await slotOf(first)).toMatchObject({ active: 0, succeeded_task_id: task.id })
    expect(await outcomeOf(task, first)).toMatchObject({ status: 'success' })
    expect((await task.get()).counts).toMatchObject({ total: 2, success: 1, pushed: 1 })
  })
})
