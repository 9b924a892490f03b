import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import {
  type LabDevice,
  makeLab,
  outcomeOf,
  over,
  progresses,
  reports,
  slotOf,
  subscribes,
} from '../../lab.ts'
import { moveClock, until } from '../../lab-clock.ts'

const MINUTE = 60_000

async function oneDevice(credit = 1000) {
  const lab = await makeLab(1, {}, credit)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  return { lab, device }
}

describe('a newer task that replaces', () => {
  it('a newer task that replaces cancels a Pushed device in the older task and sends its own notice', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    const first = await lab.push(device)
    const newer = await lab.upgradeTo('v3')
    const second = await lab.push(device)
    expect(second.notice.params.version).toBe('v3')
    expect(Number(second.notice.id)).toBeGreaterThan(Number(first.notice.id))
    expect(await older.device(device)).toMatchObject({
      status: 'cancelled',
      description: `replaced by ${newer.id}`,
    })
    await older.becomes('finished')
    expect(await lab.unexpected()).toEqual([])
    expect(await outcomeOf(older, device)).toMatchObject({ status: 'cancelled' })
    expect(await slotOf(device)).toMatchObject({ task_id: newer.id, active: 1 })
  })

  it('a newer task that replaces cancels a Pending device that was offline in the older task', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.bridge.publish((await lab.bridge.notice(device)).frame, 'offline')
    const newer = await lab.upgradeTo('v3')
    await lab.push(device)
    expect((await older.device(device)).description).toBe(`replaced by ${newer.id}`)
  })

  it('a newer task that replaces waits for an Upgrading device until the older task is done with it', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 30)])
    const newer = await lab.upgradeTo('v3')
    await until('the newer task waits', async () =>
      (await newer.device(device)).waitingFor?.includes(older.id),
    )
    expect(await lab.unexpected()).toEqual([])
    expect(await slotOf(device)).toMatchObject({ task_id: older.id, active: 1, waiting_task_id: newer.id })
    await lab.bridge.post([subscribes(device), progresses(device, -1)])
    const { notice } = await lab.push(device)
    expect(notice.params.version).toBe('v3')
    expect(await older.device(device)).toMatchObject({
      status: 'failure',
      description: 'upgrade failed: at -1',
    })
    await lab.bridge.post([progresses(device, 100), reports(device, 'v3')])
    expect(await newer.device(device)).toMatchObject({ status: 'success' })
  })

  it('a newer task that replaces hands out its notice over HTTPS at once', async () => {
    const { lab, device } = await oneDevice(0)
    const older = await lab.upgradeTo('v2')
    await older.reaches(device, 'pending')
    const first = await over(device)('GET', '/device/v1/upgrade')
    expect(first.body.params.version).toBe('v2')
    const newer = await lab.upgradeTo('v3')
    await newer.reaches(device, 'pending')
    const second = await over(device)('GET', '/device/v1/upgrade')
    expect(second.body.params.version).toBe('v3')
    expect(Number(second.body.id)).toBeGreaterThan(Number(first.body.id))
    expect((await older.device(device)).status).toBe('cancelled')
  })
})

describe('a newer task that waits', () => {
  it('a newer task that waits lets the older task finish with a Pushed device', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    const newer = await lab.upgradeTo('v3', { policy: { onBusy: 'wait' } })
    await until('the newer task waits', async () =>
      (await newer.device(device)).waitingFor?.includes(older.id),
    )
    await lab.bridge.post([progresses(device, 100), reports(device, 'v2')])
    expect((await lab.push(device)).notice.params.version).toBe('v3')
    expect((await older.device(device)).status).toBe('success')
  })

  it('a task that waits for a slot looks again every 15 minutes, so that a lost call costs only time', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    const newer = await lab.upgradeTo('v3', { policy: { onBusy: 'wait' } })
    await until('the newer task waits', async () =>
      (await newer.device(device)).waitingFor?.includes(older.id),
    )
    // Frees the slot without a word to the newer task.
    await env.DB.prepare('UPDATE upgrades SET active = 0 WHERE device_id = ?').bind(device.id).run()
    moveClock(14 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
    moveClock(2 * MINUTE)
    expect((await lab.push(device)).notice.params.version).toBe('v3')
  })

  it('a newer task that waits replaces an older task that waits too', async () => {
    const { lab, device } = await oneDevice()
    const first = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 1)])
    const second = await lab.upgradeTo('v3')
    await until('the second task waits', async () => (await slotOf(device))?.waiting_task_id === second.id)
    const third = await lab.upgradeTo('v4', { policy: { onBusy: 'wait' } })
    await second.reaches(device, 'cancelled')
    expect((await second.device(device)).description).toBe(`replaced by ${third.id}`)
    await lab.bridge.post([progresses(device, 100)])
    expect((await lab.push(device)).notice.params.version).toBe('v4')
    expect((await first.device(device)).status).toBe('success')
    expect(await lab.unexpected()).toEqual([])
  })

  it('a waiting task that is cancelled gives up its place', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 1)])
    const newer = await lab.upgradeTo('v3')
    await until('the newer task waits', async () => (await slotOf(device))?.waiting_task_id === newer.id)
    await newer.post('/cancel')
    await newer.reaches(device, 'cancelled')
    await lab.bridge.post([progresses(device, -1)])
    await older.becomes('finished')
    expect(await lab.unexpected()).toEqual([])
    expect(await slotOf(device)).toMatchObject({ active: 0, waiting_task_id: null })
    expect((await older.post('/retry')).body).toEqual({ retried: 1, skipped: [] })
    expect((await lab.push(device)).notice.params.version).toBe('v2')
  })
})

describe('a newer task that fails on busy devices', () => {
  it('a newer task that fails on a busy device leaves the older task alone, and can be retried after it', async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    const newer = await lab.upgradeTo('v3', { policy: { onBusy: 'fail' } })
    await newer.becomes('finished')
    expect(await newer.device(device)).toMatchObject({
      status: 'failure',
      description: 'another upgrade is active',
      pushes: 0,
    })
    await lab.unexpected()
    expect(await outcomeOf(newer, device)).toMatchObject({ status: 'failure' })
    expect((await older.device(device)).status).toBe('pushed')
    await lab.bridge.post([progresses(device, 100)])
    expect((await older.device(device)).status).toBe('success')
    await lab.unexpected()
    await newer.post('/retry')
    expect((await lab.push(device)).notice.params.version).toBe('v3')
  })
})

describe('an older task', () => {
  it('an older task never sends to a device that a newer task holds or brought to Success', async () => {
    const lab = await makeLab(2, {}, 0)
    const [held, done] = lab.devices as [LabDevice, LabDevice]
    const older = await lab.upgradeTo('v2')
    await older.reaches(done, 'pending')
    await older.post('/pause')
    const newer = await lab.upgradeTo('v3')
    lab.bridge.grant(100)
    await lab.push(held)
    await lab.push(done)
    await lab.bridge.post([progresses(done, 100), reports(done, 'v3')])
    await newer.reaches(done, 'success')
    await older.post('/resume')
    await older.becomes('finished')
    for (const device of [held, done]) {
      expect(await older.device(device)).toMatchObject({
        status: 'cancelled',
        description: `superseded by ${newer.id}`,
        pushes: 0,
      })
    }
    expect(await lab.unexpected()).toEqual([])
    const { body } = await older.post('/retry?include=cancelled')
    expect(body.retried).toBe(0)
    expect(body.skipped).toEqual(
      expect.arrayContaining([
        { code: 'newer_task_holds_device', reason: 'a newer task holds the device', count: 1 },
        {
          code: 'newer_task_succeeded',
          reason: 'a newer task brought the device to Success',
          count: 1,
        },
      ]),
    )
    await lab.bridge.post([reports(done, 'v1'), subscribes(done)])
    expect((await over(done)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expect(await lab.unexpected()).toEqual([])
  })

  it("an older task sends nothing more to an Upgrading device that reports the newer task's version", async () => {
    const { lab, device } = await oneDevice()
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 50)])
    const newer = await lab.upgradeTo('v3')
    await until('the newer task waits', async () => (await slotOf(device))?.waiting_task_id === newer.id)
    await lab.bridge.post([reports(device, 'v3')])
    await newer.reaches(device, 'success')
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([reports(device, 'v3'), reports(device, 'v3')])
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expect(await lab.unexpected()).toEqual([])
    expect((await older.device(device)).pushes).toBe(1)
  })
})

it('of three tasks that start at once, the newest gets every device', async () => {
  const lab = await makeLab(40)
  const packages = await Promise.all(['v2', 'v3', 'v4'].map((version) => lab.addPackage(version)))
  const tasks = await Promise.all(packages.map((id) => lab.addTask(id)))
  await until('no device is Pending', async () => {
    // A task that lost a slot to another at the same moment looks again after some seconds.
    moveClock(6_000)
    for (const frame of (await lab.unexpected()).splice(0)) await lab.bridge.publish(frame)
    const all = await Promise.all(tasks.map((task) => task.get()))
    return all.every(({ counts }) => counts.total === 40 && counts.pending === 0)
  })
  const newestFirst = await env.DB.prepare('SELECT id FROM tasks WHERE product_id = ? ORDER BY rank DESC')
    .bind(lab.productId)
    .all<{ id: string }>()
  const [newest] = newestFirst.results
  for (const task of tasks) {
    const ended = task.id === newest!.id ? { pushed: 40, cancelled: 0 } : { pushed: 0, cancelled: 40 }
    expect((await task.get()).counts).toMatchObject({ total: 40, ...ended })
  }
  for (const device of lab.devices) {
    expect(await slotOf(device)).toMatchObject({ task_id: newest!.id, active: 1, waiting_task_id: null })
  }
})
