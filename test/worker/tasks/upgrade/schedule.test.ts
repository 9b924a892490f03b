import { evictDurableObject, runDurableObjectAlarm } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import {
  addDevice,
  type LabDevice,
  makeLab,
  outcomeOf,
  over,
  progresses,
  reports,
  requests,
  slotOf,
  subscribes,
} from '../../lab.ts'
import { moveClock } from '../../lab-clock.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const inFuture = (ms: number) => new Date(Date.now() + ms).toISOString()

async function oneDevice() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  return { lab, device }
}

describe('the start of a task', () => {
  it('a task that starts in 5 s starts by its alarm, even if its object was evicted', async () => {
    const { lab, device } = await oneDevice()
    const startAt = inFuture(5_000)
    const task = await lab.upgradeTo('v2', { startAt })
    await task.reaches(device, 'pending')
    expect(await task.get()).toMatchObject({ status: 'scheduled', startAt })
    await evictDurableObject(env.UPGRADE_TASK.getByName(task.id))
    await lab.bridge.notice(device)
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(startAt))
    expect(await task.get()).toMatchObject({ status: 'running' })
  })

  it('a task before its start sends nothing, whatever the device does, and takes no slot', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2', { startAt: inFuture(HOUR) })
    await task.reaches(device, 'pending')
    await lab.bridge.post([reports(device, 'v1'), subscribes(device), requests(device, '5')])
    expect((await over(device)('GET', '/device/v1/upgrade?id=9')).body).toEqual({
      id: '9',
      code: 200,
      params: {},
    })
    expect(await lab.unexpected()).toEqual([])
    expect(lab.bridge.replies).toMatchObject([{ payload: '{"id":"5","code":200,"params":{}}' }])
    expect(await slotOf(device)).toBe(null)
    moveClock(61 * MINUTE)
    await lab.push(device)
  })

  it('a task takes in devices that were made before its start', async () => {
    const lab = await makeLab(0)
    const task = await lab.upgradeTo('v2', { startAt: inFuture(HOUR) })
    await lab.unexpected()
    const device = await addDevice(lab.admin, lab.productId, 'late')
    moveClock(61 * MINUTE)
    await lab.push(device)
    expect((await task.get()).counts).toMatchObject({ total: 1, pushed: 1 })
  })

  it('a task that is paused before its start stays open, even without a device', async () => {
    const lab = await makeLab(0)
    const task = await lab.upgradeTo('v2', { startAt: inFuture(HOUR) })
    await task.post('/pause')
    await lab.unexpected()
    expect((await task.get()).status).toBe('paused')
    const device = await addDevice(lab.admin, lab.productId, 'late')
    moveClock(2 * HOUR)
    expect(await lab.unexpected()).toEqual([])
    expect((await task.post('/resume')).status).toBe(200)
    await lab.push(device)
  })

  it('a task whose start is in the past starts at once', async () => {
    const { lab, device } = await oneDevice()
    await lab.upgradeTo('v2', { startAt: '2020-01-01T00:00:00Z' })
    await lab.push(device)
  })
})

describe('the end of a task', () => {
  it('at its end a task cancels Pending and Pushed devices and lets Upgrading ones finish', async () => {
    const lab = await makeLab(3)
    const [offline, pushed, upgrading] = lab.devices as [LabDevice, LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2', { endAt: inFuture(HOUR) })
    await lab.bridge.publish((await lab.bridge.notice(offline)).frame, 'offline')
    await lab.push(pushed)
    await lab.push(upgrading)
    moveClock(50 * MINUTE)
    await lab.bridge.post([progresses(upgrading, 50)])
    moveClock(11 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
    for (const device of [offline, pushed]) {
      const ended = { status: 'cancelled', description: "the task's end was reached" }
      expect(await task.device(device)).toMatchObject(ended)
      expect(await outcomeOf(task, device)).toMatchObject(ended)
      expect(await slotOf(device)).toMatchObject({ active: 0 })
    }
    expect(await task.get()).toMatchObject({ status: 'running' })
    await lab.bridge.post([subscribes(offline), reports(pushed, 'v1'), requests(offline, '1')])
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([progresses(upgrading, 100)])
    await task.becomes('finished')
    expect((await task.get()).counts).toMatchObject({ total: 3, success: 1, cancelled: 2 })
    expect((await task.post('/retry')).body.code).toBe('task.ended')
  })

  it("a device that falls silent after the task's end still times out", async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2', { endAt: inFuture(HOUR) })
    await lab.push(device)
    await lab.bridge.post([progresses(device, 50)])
    await lab.bridge.idleFor(62 * MINUTE)
    await task.becomes('finished')
    expect((await task.device(device)).description).toBe('timed out')
  })

  it('a paused task ends at its end', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2', { endAt: inFuture(HOUR) })
    await lab.push(device)
    await task.post('/pause')
    moveClock(2 * HOUR)
    await task.becomes('finished')
    expect((await task.device(device)).status).toBe('cancelled')
  })

  it('an end that is moved while a device is Upgrading counts again', async () => {
    const lab = await makeLab(2)
    const [slow, retried] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2', { endAt: inFuture(HOUR) })
    await lab.push(slow)
    await lab.push(retried)
    await lab.bridge.post([progresses(slow, 1)])
    moveClock(61 * MINUTE)
    await task.reaches(retried, 'cancelled')
    expect((await task.patch({ endAt: inFuture(HOUR) })).status).toBe(200)
    await task.post('/retry?include=cancelled')
    await lab.push(retried)
    moveClock(61 * MINUTE)
    await task.reaches(retried, 'cancelled')
    expect((await task.device(slow)).status).toBe('upgrading')
  })

  it('an end before the start, or in the past, is refused', async () => {
    const { lab } = await oneDevice()
    const packageId = await lab.addPackage('v2')
    const body = { packageId, name: 'x', devices: 'all' }
    const wrong = [
      { startAt: inFuture(HOUR), endAt: inFuture(MINUTE) },
      { endAt: '2020-01-01T00:00:00Z' },
      { startAt: 'tomorrow' },
      { endAt: '2026-02-30T00:00:00Z' },
      { startAt: 5 },
    ]
    for (const times of wrong) {
      const { status, body: problem } = await lab.admin.call('POST', '/api/v1/tasks', { ...body, ...times })
      expect(status, JSON.stringify(times)).toBe(422)
      expect(problem.errors[0].path).toMatch(/^(startAt|endAt)$/)
    }
  })
})

describe('a paused task', () => {
  it('a paused task sends notices only to Upgrading devices that ask', async () => {
    const lab = await makeLab(3)
    const [pending, pushed, upgrading] = lab.devices as [LabDevice, LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.bridge.publish((await lab.bridge.notice(pending)).frame, 'offline')
    await lab.push(pushed)
    await lab.push(upgrading)
    await lab.bridge.post([progresses(upgrading, 5)])
    expect((await task.post('/pause')).body).toMatchObject({
      status: 'paused',
      pausedReason: expect.any(String),
    })
    moveClock(2 * MINUTE)
    const all = [pending, pushed]
    await lab.bridge.post(all.flatMap((device) => [subscribes(device), reports(device, 'v1')]))
    await lab.bridge.post([reports(upgrading, 'v1')])
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([requests(pending, '1'), requests(pushed, '2')])
    expect(await lab.unexpected()).toEqual([])
    expect(lab.bridge.replies).toHaveLength(2)
    for (const device of all) {
      expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    }
    expect((await over(upgrading)('GET', '/device/v1/upgrade')).body.params.version).toBe('v2')
    await lab.bridge.post([requests(upgrading, '3')])
    await lab.push(upgrading)
    await task.post('/resume')
    await lab.push(pending)
    await lab.push(pushed)
  })
})

it('a task that is paused or cancelled just as its devices ask counts each device once', async () => {
  for (const verb of ['/pause', '/cancel']) {
    const lab = await makeLab(8, {}, 0)
    const task = await lab.upgradeTo('v2')
    await lab.unexpected()
    const asking = lab.devices.map((device) => over(device)('GET', '/device/v1/upgrade'))
    await Promise.all([...asking.slice(0, 4), task.post(verb), ...asking.slice(4)])
    await lab.unexpected()
    const { counts } = await task.get()
    const devices = await Promise.all(lab.devices.map((device) => task.device(device)))
    for (const status of ['pending', 'pushed', 'cancelled']) {
      expect(counts[status], `${verb}: ${status}`).toBe(devices.filter((one) => one.status === status).length)
    }
  }
})

describe('a cancelled task', () => {
  it('a cancelled task sends nothing more and frees its slots, and D1 agrees with the object', async () => {
    const lab = await makeLab(4)
    const [offline, pushed, upgrading, done] = lab.devices as [LabDevice, LabDevice, LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.bridge.publish((await lab.bridge.notice(offline)).frame, 'offline')
    for (const device of [pushed, upgrading, done]) await lab.push(device)
    await lab.bridge.post([progresses(upgrading, 5), progresses(done, 100)])
    expect((await task.post('/cancel')).body.status).toBe('cancelled')
    await lab.bridge.post(lab.devices.flatMap((device) => [reports(device, 'v1'), requests(device, 'r')]))
    for (const device of lab.devices) {
      expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    }
    expect(await lab.unexpected()).toEqual([])
    expect((await task.get()).counts).toEqual({
      total: 4,
      pending: 0,
      pushed: 0,
      upgrading: 0,
      failure: 0,
      success: 1,
      cancelled: 3,
    })
    for (const device of lab.devices) {
      const { status, description } = await task.device(device)
      expect(await outcomeOf(task, device)).toMatchObject({ status, description })
      expect(await slotOf(device)).toMatchObject({ active: 0 })
    }
    for (const verb of ['/pause', '/resume', '/retry']) {
      expect((await task.post(verb)).body).toMatchObject({ status: 409, code: 'task.cancelled' })
    }
    expect((await task.post('/cancel')).status).toBe(200)
    await runDurableObjectAlarm(env.UPGRADE_TASK.getByName(task.id))
    await lab.upgradeTo('v3')
    for (const device of lab.devices) expect((await lab.push(device)).notice.params.version).toBe('v3')
  })

  it('a task that is cancelled before its start never starts', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2', { startAt: inFuture(HOUR) })
    await task.post('/cancel')
    moveClock(2 * HOUR)
    expect(await lab.unexpected()).toEqual([])
    const { counts } = await task.get()
    expect(counts.pending + counts.pushed).toBe(0)
    expect(await slotOf(device)).toBe(null)
  })
})
