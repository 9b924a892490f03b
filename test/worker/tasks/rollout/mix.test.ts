import { describe, expect, it } from 'vitest'
import { type LabDevice, over, progresses, reports, requests } from '../../lab.ts'
import type { Item } from '../../lab-bridge.ts'
import { moveClock, stopClock } from '../../lab-clock.ts'
import { countsOf, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

const says = (step: number) => (device: LabDevice) => progresses(device, step)
const presence =
  (event: 'connected' | 'disconnected') =>
  (device: LabDevice): Item => ({
    kind: 'presence',
    event,
    username: device.token,
  })

describe('waves with an automatic retry', () => {
  const waves = [{ percent: 10 }, { percent: 100 }]

  it.each([
    ['fell silent half-way', 10],
    ['said −1', -1],
  ])(
    'waves with an automatic retry do not open because 95 of 100 devices that %s are then not found',
    async (_, step) => {
      const fleet = await makeRolloutFleet()
      const autoRetry = { times: 2, backoffMinutes: 10 }
      const task = await fleet.upgradeTo('v2', { policy: { waves, autoRetry } })
      const told = await fleet.takeNotices()
      expect(told).toHaveLength(100)
      await fleet.all(told.slice(0, 5), says(100))
      await fleet.all(told.slice(5), says(step))
      await fleet.all(told.slice(5), presence('disconnected'))
      // An hour until they time out, ten minutes until their retry, and long enough after that.
      const again: LabDevice[] = []
      for (let hours = 0; hours < 3; hours++) {
        await fleet.wait(HOUR)
        again.push(...(await fleet.takeNotices('offline')))
      }
      expect(again).toHaveLength(95)
      expect(new Set(again)).toEqual(new Set(told.slice(5)))
      expect((await task.get()).waves).toMatchObject([{ reached: 100, succeeded: 5 }, { openedAt: null }])
    },
  )

  it('a device that is retried counts once in its wave, by its last attempt', async () => {
    const fleet = await makeRolloutFleet()
    const autoRetry = { times: 1, backoffMinutes: 10 }
    const task = await fleet.upgradeTo('v2', { policy: { waves, autoRetry } })
    const told = await fleet.takeNotices()
    await fleet.succeed(told.slice(0, 80))
    await fleet.all(told.slice(80), says(-2))
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({ reached: 100, succeeded: 80, failed: 20 })
    await fleet.wait(10 * MINUTE + SECOND)
    const again = await fleet.takeNotices()
    expect(new Set(again)).toEqual(new Set(told.slice(80)))
    await fleet.succeed(again.slice(0, 9))
    expectNone(await fleet.takeNotices())
    await fleet.succeed(again.slice(9, 10))
    expect(await fleet.takeNotices()).toHaveLength(900)
    expect(await task.get()).toMatchObject({ reached: 1000, succeeded: 90, failed: 0 })
  })
})

describe('the soak of a wave', () => {
  const waves = [{ percent: 10, successPercent: 95, soakMinutes: 30 }, { percent: 100 }]
  type Straggle = (fleet: RolloutFleet, device: LabDevice) => Promise<unknown>

  it.each<[string, Straggle]>([
    ['asks', (fleet, device) => fleet.all([device], (each) => requests(each, 'again'))],
    ['asks over HTTPS', (_, device) => over(device)('GET', '/device/v1/upgrade')],
    ['reports its old version', (fleet, device) => fleet.all([device], (each) => reports(each, 'v1'))],
  ])('the soak of a wave goes on while a straggler %s', async (_, straggle) => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { waves } })
    const told = await fleet.takeNotices()
    await fleet.succeed(told.slice(0, 96))
    await fleet.all(told.slice(96), says(50))
    for (let times = 0; times < 3; times++) {
      await fleet.wait(9 * MINUTE)
      await straggle(fleet, told[96]!)
      await fleet.takeNotices()
    }
    expect((await task.get()).waves[1].openedAt).toBeNull()
    await fleet.wait(3 * MINUTE + SECOND)
    expect((await fleet.takeNotices()).filter((device) => !told.includes(device))).toHaveLength(900)
  })
})

describe('an automatic retry', () => {
  it('automatic retries keep to the rate', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { autoRetry: { times: 1, backoffMinutes: 10 } } })
    const told = await fleet.takeNotices()
    expect(told).toHaveLength(1000)
    stopClock()
    expect((await task.patch({ ratePerMinute: 600 })).status).toBe(200)
    await fleet.all(told, says(-1))
    await fleet.wait(10 * MINUTE - 1)
    expectNone(await fleet.takeNotices())
    await fleet.wait(1)
    expect(await fleet.takeNotices()).toHaveLength(2)
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 998, pushed: 2 })
    for (let steps = 0; steps < 20; steps++) {
      moveClock(500)
      await fleet.takeNotices()
    }
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 900, pushed: 100 })
  })

  it('an automatic retry waits for the window', async () => {
    const fleet = await makeRolloutFleet()
    moveClock(Date.parse('2032-01-07T04:30:00Z') - Date.now())
    await fleet.bridge.post([])
    const policy = {
      autoRetry: { times: 1, backoffMinutes: 60 },
      window: { from: '01:00', to: '05:00', timeZone: 'UTC' },
    }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 300), says(-1))
    await fleet.wait(2 * HOUR)
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 300, pushed: 700 })
    expect((await task.device(told[0]!)).waitingFor).toBe('outside its window until 01:00 UTC')
    moveClock(Date.parse('2032-01-08T00:59:59Z') - Date.now())
    await fleet.bridge.post([])
    expectNone(await fleet.takeNotices())
    await fleet.wait(2 * SECOND)
    expect(new Set(await fleet.takeNotices())).toEqual(new Set(told.slice(0, 300)))
  })

  it('automatic retries stop while the task is halted, and do not lower the failures that halted it', async () => {
    const fleet = await makeRolloutFleet()
    const policy = {
      waves: [{ percent: 10 }, { percent: 100 }],
      haltOn: { failurePercent: 10, minFinished: 20 },
      autoRetry: { times: 1, backoffMinutes: 10 },
    }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    await fleet.succeed(told.slice(0, 60))
    await fleet.all(told.slice(60), says(-1))
    const pausedReason = 'halted: 40 of 100 settled devices failed (40 %, the limit is 10 %)'
    expect(await task.get()).toMatchObject({ status: 'paused', pausedReason })
    await fleet.wait(30 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({ status: 'paused', pausedReason })
    await task.post('/resume')
    const again = await fleet.takeNotices()
    expect(new Set(again)).toEqual(new Set(told.slice(60)))
    await fleet.all(again.slice(0, 19), says(-1))
    expect((await task.get()).status).toBe('running')
    await fleet.all(again.slice(19, 20), says(-1))
    expect(await task.get()).toMatchObject({
      pausedReason: 'halted: 20 of 20 settled devices failed (100 %, the limit is 10 %)',
    })
  })

  it("no automatic retry comes after the task's end", async () => {
    const fleet = await makeRolloutFleet()
    const endAt = new Date(Date.now() + HOUR).toISOString()
    const policy = { autoRetry: { times: 3, backoffMinutes: 30 } }
    const task = await fleet.upgradeTo('v2', { endAt, policy })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 400), says(-1))
    await fleet.all(told.slice(400), says(100))
    await fleet.wait(31 * MINUTE)
    const again = await fleet.takeNotices()
    expect(again).toHaveLength(400)
    await fleet.all(again, says(-2))
    expect((await task.device(again[0]!)).waitingFor).toMatch(/^its automatic retry at/)
    await fleet.wait(30 * MINUTE)
    expect(await task.get()).toMatchObject({ status: 'finished', counts: { success: 600, failure: 400 } })
    expect((await task.device(again[0]!)).waitingFor).toBeNull()
    await fleet.wait(3 * HOUR)
    expectNone(await fleet.takeNotices())
  })
})

describe('the first wave', () => {
  it('a device of the first wave that falls silent while connected has not failed, and does not help to open the next wave', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices, presence('connected'))
    const policy = {
      waves: [{ percent: 10 }, { percent: 100 }],
      haltOn: { failurePercent: 10, minFinished: 1 },
    }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 89), says(100))
    await fleet.wait(5 * HOUR)
    // They are reminded; no other device is told.
    const silent = told.slice(89).map(({ number }) => number)
    expect((await fleet.takeNotices()).map(({ number }) => number).sort()).toEqual(silent.sort())
    expect(await task.get()).toMatchObject({ status: 'running', reached: 100, succeeded: 89, failed: 0 })
    await fleet.succeed(told.slice(89, 90))
    expect(await fleet.takeNotices()).toHaveLength(900)
  })

  it('a device of the first wave that goes offline after a version report, before its notice reaches it, has failed', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices, presence('connected'))
    const policy = {
      waves: [{ percent: 10 }, { percent: 100 }],
      haltOn: { failurePercent: 10, minFinished: 20 },
    }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 5), says(100))
    await fleet.all(told.slice(5), (device) => reports(device, 'v1'))
    await fleet.all(told.slice(5), presence('disconnected'))
    expect(new Set(await fleet.takeNotices('offline'))).toEqual(new Set(told.slice(5)))
    await fleet.wait(62 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({ status: 'paused', reached: 100, succeeded: 5, failed: 95 })
  })

  it('the first wave does not wait for devices that are busy with another task', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.upgradeTo('v2')
    const told = await fleet.takeNotices()
    await fleet.all(told, says(50))
    const waves = [{ percent: 10 }, { percent: 100 }]
    const task = await fleet.upgradeTo('v3', { policy: { waves, onBusy: 'wait' } })
    expectNone(await fleet.takeNotices())
    await fleet.all(told, says(100))
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(100)
    await fleet.all(first.slice(0, 89), (device) => reports(device, 'v3'))
    expectNone(await fleet.takeNotices())
    await fleet.all(first.slice(89, 90), (device) => reports(device, 'v3'))
    expect(await fleet.takeNotices()).toHaveLength(900)
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 910, success: 90 })
  })

  it('an operator can open the next wave of a paused task, and its notices go out when the task resumes', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 10 }, { percent: 100 }] } })
    expect(await fleet.takeNotices()).toHaveLength(100)
    await task.post('/pause')
    expect((await task.post('/waves/next')).status).toBe(200)
    expectNone(await fleet.takeNotices())
    await task.post('/resume')
    expect(await fleet.takeNotices()).toHaveLength(900)
  })
})

describe('the end', () => {
  it('the end comes to a paused task too, and a device that asks afterwards hears that nothing is due', async () => {
    const fleet = await makeRolloutFleet()
    const endAt = new Date(Date.now() + HOUR).toISOString()
    const task = await fleet.upgradeTo('v2', { endAt })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 100), says(30))
    await task.post('/pause')
    await fleet.wait(30 * MINUTE)
    await fleet.all(told.slice(0, 100), says(60))
    await fleet.wait(31 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, upgrading: 100, cancelled: 900 })
    fleet.bridge.replies.length = 0
    await fleet.all(told.slice(500, 600), (device) => requests(device, 'now'))
    expectNone(await fleet.takeNotices())
    expect(fleet.bridge.replies).toHaveLength(100)
    expect((await over(told[600]!)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    await fleet.all(told.slice(0, 60), says(100))
    await fleet.all(told.slice(60, 100), says(-1))
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({
      status: 'finished',
      counts: { success: 60, failure: 40, cancelled: 900 },
    })
  })

  it('the end of a task can be moved while the task runs', async () => {
    const fleet = await makeRolloutFleet()
    const start = Date.now()
    const at = (ms: number) => new Date(start + ms).toISOString()
    const waves = [{ percent: 10 }, { percent: 100 }]
    const task = await fleet.upgradeTo('v2', { endAt: at(HOUR), policy: { waves } })
    expect(await fleet.takeNotices()).toHaveLength(100)
    expect((await task.patch({ endAt: at(2 * HOUR) })).status).toBe(200)
    await fleet.wait(90 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 900, pushed: 100 })
    expect((await task.patch({ endAt: null })).status).toBe(200)
    await fleet.wait(60 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 900, pushed: 100 })
    expect((await task.patch({ endAt: at(151 * MINUTE) })).status).toBe(200)
    await fleet.wait(2 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, cancelled: 1000 })
  })
})
