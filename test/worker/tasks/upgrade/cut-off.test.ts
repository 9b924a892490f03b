import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import type { Env } from '../../../../src/common/env.ts'
import type { UpgradeTask } from '../../../../src/tasks/object/task-object.ts'
import { type LabDevice, type LabTask, makeLab, outcomeOf, progresses, requests } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock, untilIdle } from '../../lab-clock.ts'

// Calls that come, or a process that ends, while a step of a task waits for the database.

const HOUR = 3_600_000
const inTask = <T>(task: LabTask, act: (object: UpgradeTask, state: DurableObjectState) => Promise<T>) =>
  runInDurableObject(env.UPGRADE_TASK.getByName(task.id), act)
const databaseOf = (object: UpgradeTask) => (object as unknown as { env: Env }).env.DB

it('a retry that meets a cancellation retries no device', async () => {
  const lab = await makeLab(2)
  const [failed] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  for (const device of lab.devices) await lab.push(device)
  await lab.bridge.post([progresses(failed, -4)])
  await task.reaches(failed, 'failure')
  await untilIdle()
  await inTask(task, async (object) => {
    const retried = object.retry({ includeCancelled: false })
    await object.cancel()
    await Promise.all([retried, object.alarm()])
  })
  await untilIdle()
  expect(await task.get()).toMatchObject({
    status: 'cancelled',
    counts: { pending: 0, failure: 1, cancelled: 1 },
  })
  expect(await outcomeOf(task, failed)).toMatchObject({ status: 'failure', attempt: 1 })
})

it('a task whose database call failed sets its alarm, and so goes on by itself', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  const { frame } = await lab.bridge.notice(device)
  await lab.bridge.post([sent(frame), taken(frame, 'offline')])
  await untilIdle()
  moveClock(HOUR)
  await untilIdle()
  await inTask(task, async (object, { storage }) => {
    const failing = vi.spyOn(databaseOf(object), 'batch').mockRejectedValueOnce(new Error('D1 is overloaded'))
    await expect((async () => object.handOut(device.id))()).rejects.toThrow('overloaded')
    failing.mockRestore()
    expect(await storage.getAlarm()).not.toBeNull()
  })
})

it('a change to a task that comes while its row is being written is written later', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await untilIdle()
  moveClock(HOUR)
  await untilIdle()
  await inTask(task, async (object) => {
    await object.patch({ name: 'first' })
    const writing = object.alarm()
    await object.patch({ name: 'second' })
    await writing
  })
  await untilIdle()
  moveClock(HOUR)
  await untilIdle()
  const row = await env.DB.prepare('SELECT name FROM tasks WHERE id = ?').bind(task.id).first()
  expect(row).toEqual({ name: 'second' })
})

it('a newer task that is cancelled while it takes slots replaces no device of the older task', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const older = await lab.upgradeTo('v2')
  await lab.push(device)
  const startAt = new Date(Date.now() + 60_000).toISOString()
  const newer = await lab.addTask(await lab.addPackage('v3'), { startAt })
  await untilIdle()
  moveClock(61_000)
  await inTask(newer, async (object) => {
    const database = databaseOf(object)
    const batch = database.batch.bind(database)
    const cancelling = vi.spyOn(database, 'batch').mockImplementation(async (statements) => {
      const results = await batch(statements)
      await object.cancel()
      return results as never
    })
    await object.alarm()
    cancelling.mockRestore()
  })
  await untilIdle()
  expect((await newer.get()).status).toBe('cancelled')
  expect(await older.device(device)).toMatchObject({ status: 'pushed' })
})

it('the history of a device does not fill up with the same reason to wait', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2', {}, { kind: 'diff', sourceVersion: 'v1' })
  for (let looks = 0; looks < 20; looks++) {
    await untilIdle()
    moveClock(HOUR / 4 + 1000)
  }
  expect((await task.device(lab.devices[0]!)).events.length).toBeLessThan(5)
})

it('a retry is refused if the package was recalled', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const packageId = await lab.addPackage('v2')
  const task = await lab.addTask(packageId)
  await lab.push(device)
  await lab.bridge.post([progresses(device, -4)])
  await task.becomes('finished')
  await lab.admin.call('POST', `/api/v1/packages/${packageId}/recall`)
  expect(await task.post('/retry')).toMatchObject({ status: 409, body: { code: 'package.recalled' } })
  expect((await task.get()).status).toBe('finished')
})

it('a notice that an Upgrading device asked for, and the bridge did not confirm, goes out again even while the task is paused', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  await lab.push(device)
  await lab.bridge.post([progresses(device, 5)])
  await task.reaches(device, 'upgrading')
  await task.post('/pause')
  await lab.bridge.post([requests(device, '1')])
  const first = await lab.bridge.notice(device)
  moveClock(61_000)
  const again = await lab.bridge.notice(device)
  expect(again.notice.id).toBe(first.notice.id)
})

it('a task takes in no device after its end', async () => {
  const lab = await makeLab(501)
  const [late] = lab.devices.toSorted((a, b) => (a.id < b.id ? -1 : 1)) as [LabDevice]
  await env.DB.prepare(`UPDATE devices SET tags = iif(id = ?1, '[]', '["a"]') WHERE product_id = ?2`)
    .bind(late.id, lab.productId)
    .run()
  const endAt = new Date(Date.now() + HOUR).toISOString()
  const policy = { dynamic: true, ratePerMinute: 1 }
  const task = await lab.upgradeTo('v2', { devices: { filter: { tags: ['a'] } }, endAt, policy })
  await untilIdle()
  moveClock(HOUR + 1000)
  await env.DB.prepare(`UPDATE devices SET tags = '["a"]' WHERE id = ?`).bind(late.id).run()
  await inTask(task, async (object) => {
    await object.newcomers([late.id])
    await object.alarm()
  })
  await untilIdle()
  moveClock(HOUR)
  await untilIdle()
  expect(await task.get()).toMatchObject({ status: 'finished', counts: { pending: 0, pushed: 0 } })
})
