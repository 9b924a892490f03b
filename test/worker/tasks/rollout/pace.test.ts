import { describe, expect, it } from 'vitest'
import { spacing } from '../../../../src/tasks/rules/rollout.ts'
import { type LabDevice, over, progresses, reports, requests } from '../../lab.ts'
import { type Item, sent, taken } from '../../lab-bridge.ts'
import { moveClock, stopClock } from '../../lab-clock.ts'
import { countsOf, expectNone, makeRolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND

const disconnects = ({ token }: LabDevice): Item => ({
  kind: 'presence',
  event: 'disconnected',
  username: token,
})

/** At 600 a minute a quarter of a second's worth goes out at once, then a notice each 101.7 ms. */
const STEP = 500

describe('ratePerMinute', () => {
  it('a rate of 600 sends 1,000 devices their notices evenly, at most 600 in any minute', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 600 } })
    const told = new Map<number, number>()
    const times: number[] = []
    for (let ms = 0; times.length < 1000; ms += STEP, moveClock(STEP)) {
      for (const _ of await fleet.takeNotices()) times.push(ms)
      told.set(ms / SECOND, times.length)
    }
    const after = [0, 0.5, 1, 2, 10, 30, 59.5, 60, 61, 101, 101.5]
    expect(after.map((seconds) => told.get(seconds))).toEqual([
      2, 7, 12, 22, 100, 297, 587, 592, 602, 995, 1000,
    ])
    const mostWithin = (span: number) =>
      Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + span).length))
    expect([MINUTE, 10 * SECOND, SECOND].map(mostWithin)).toEqual([591, 99, 10])
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 1000 })
  })

  it('a pause saves up nothing of the rate', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 600 } })
    expect(await fleet.takeNotices()).toHaveLength(2)
    await task.post('/pause')
    await fleet.wait(10 * MINUTE)
    expectNone(await fleet.takeNotices())
    await task.post('/resume')
    expect(await fleet.takeNotices()).toHaveLength(2)
    await fleet.wait(STEP)
    expect(await fleet.takeNotices()).toHaveLength(5)
  })

  it('the rate counts re-sent notices and notices over HTTPS', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 600 } })
    const first = await fleet.takeNotices()
    for (let steps = 0; steps < 4; steps++) {
      await fleet.wait(STEP)
      first.push(...(await fleet.takeNotices()))
    }
    expect(first).toHaveLength(22)
    // Each asks again or reports the old version, so all of them are the next in turn.
    await fleet.all(first.slice(0, 11), (device) => requests(device, 'r'))
    await fleet.all(first.slice(11), (device) => reports(device, 'v1'))
    const again: LabDevice[] = []
    const perStep: number[] = []
    for (let steps = 0; steps < 4; steps++) {
      await fleet.wait(STEP)
      const told = await fleet.takeNotices()
      again.push(...told)
      perStep.push(told.length)
    }
    expect(perStep).toEqual([5, 4, 5, 5])
    // Half of it is for the devices that wait for their first notice.
    expect(again.filter((device) => first.includes(device))).toHaveLength(10)
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 969, pushed: 31 })

    const [one, two] = fleet.devices.filter((device) => !first.includes(device) && !again.includes(device))
    const fetch = async (device: LabDevice) => (await over(device)('GET', '/device/v1/upgrade')).body.params
    expect(await fetch(one!)).toEqual({})
    moveClock(30)
    expect(await fetch(one!)).toMatchObject({ version: 'v2' })
    expect(await fetch(two!)).toEqual({})
    expectNone(await fleet.takeNotices())
  })

  it('the rate of a running task can be changed and removed', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 1 } })
    expect(await fleet.takeNotices()).toHaveLength(1)
    expect((await task.patch({ policy: { ratePerMinute: 30 } })).status).toBe(200)
    expectNone(await fleet.takeNotices())
    await fleet.wait(Math.ceil(spacing(30)))
    expect(await fleet.takeNotices()).toHaveLength(1)
    expect((await task.patch({ ratePerMinute: null })).body.policy.ratePerMinute).toBeUndefined()
    expect(await fleet.takeNotices()).toHaveLength(998)
  })

  it('a device that waits for its turn says about how long that takes', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 100 } })
    await fleet.takeNotices()
    const inOrder = fleet.devices.toSorted((a, b) => (a.id < b.id ? -1 : 1))
    expect((await task.device(inOrder[400]!)).waitingFor).toBe('rate: about 4 min')
  })
})

describe('waves', () => {
  const policy = {
    waves: [
      { percent: 1, successPercent: 95, soakMinutes: 30 },
      { percent: 20, successPercent: 95 },
      { percent: 100 },
    ],
  }

  it('waves of 1, 20 and 100 % have 10, 190 and 800 of 1,000 devices, and open one after the other', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(10)
    await fleet.succeed(first)
    await fleet.wait(29 * MINUTE)
    expectNone(await fleet.takeNotices())
    await fleet.wait(MINUTE + SECOND)
    const second = await fleet.takeNotices()
    expect(second).toHaveLength(190)
    // 180 of 190 are 94.7 %, less than the 95 % needed.
    await fleet.succeed(second.slice(0, 180))
    expectNone(await fleet.takeNotices())
    const others = fleet.devices.filter((device) => !first.includes(device) && !second.includes(device))
    expect((await task.device(others[0]!)).waitingFor).toBe(
      'wave 3 opens when 95 % of wave 2 succeeded (now 94.7 %)',
    )
    await fleet.succeed(second.slice(180, 181))
    const third = await fleet.takeNotices()
    expect(new Set(third)).toEqual(new Set(others))
    await fleet.succeed([...second.slice(181), ...third])
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({
      status: 'finished',
      counts: { success: 1000 },
      waves: [
        { percent: 1, devices: 10, reached: 10, succeeded: 10, failed: 0 },
        { percent: 20, devices: 190, reached: 190, succeeded: 190, failed: 0 },
        { percent: 100, devices: 800, reached: 800, succeeded: 800, failed: 0 },
      ],
    })
  })

  it('the soak of a wave begins anew if one of its devices is rolled back meanwhile', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    const first = await fleet.takeNotices()
    await fleet.all(first, (device) => progresses(device, 100))
    await fleet.all(first, (device) => requests(device, 'r'))
    await fleet.wait(20 * MINUTE)
    await fleet.all(first.slice(0, 1), (device) => reports(device, 'v1'))
    expect(await task.get()).toMatchObject({ rolledBack: 1, waves: [{ succeeded: 9, failed: 1 }, {}, {}] })
    await fleet.wait(60 * MINUTE)
    expectNone(await fleet.takeNotices())
  })

  it('an operator can open the next wave, which is recorded in the audit log', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    expect(await fleet.takeNotices()).toHaveLength(10)
    const opened = await task.post('/waves/next')
    expect(opened.body.waves[1].openedAt).not.toBeNull()
    expect(await fleet.takeNotices()).toHaveLength(190)
    expect((await task.post('/waves/next')).status).toBe(200)
    expect(await fleet.takeNotices()).toHaveLength(800)
    const refused = await task.post('/waves/next')
    expect([refused.status, refused.body.code]).toEqual([409, 'task.no_wave'])
    const { body } = await fleet.admin.call('GET', `/api/v1/audit?action=task.wave_next&target=${task.id}`)
    expect(body.items).toHaveLength(2)
  })

  it('the first wave of three devices has at least one, and an empty wave is skipped', async () => {
    const fleet = await makeRolloutFleet(3)
    await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 1 }, { percent: 2 }, { percent: 100 }] } })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(1)
    await fleet.succeed(first)
    expect(await fleet.takeNotices()).toHaveLength(2)
  })

  it('a device of a later wave hears that nothing is due, over MQTT and over HTTPS', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    const first = await fleet.takeNotices()
    const later = fleet.devices.filter((device) => !first.includes(device)).slice(0, 20)
    await fleet.all(later, (device) => requests(device, 'what'))
    expectNone(await fleet.takeNotices())
    expect(fleet.bridge.replies.filter(({ payload }) => payload.includes('"params":{}'))).toHaveLength(20)
    const { body } = await over(later[0]!)('GET', '/device/v1/upgrade')
    expect(body.params).toEqual({})
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 990, pushed: 10 })
  })
})

describe('haltOn', () => {
  const policy = { haltOn: { failurePercent: 10, minFinished: 20 } }
  const fail = (device: LabDevice) => progresses(device, -1)

  it('a task halts once enough devices have settled and more of them failed than the limit allows', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    const task = await fleet.upgradeTo('v2', { policy: { ...policy, ratePerMinute: 6000 } })
    const told = await fleet.takeNotices()
    await fleet.wait(SECOND)
    told.push(...(await fleet.takeNotices()))
    expect(told).toHaveLength(122)
    await fleet.all(told.slice(0, 2), fail)
    await fleet.succeed(told.slice(2, 19))
    expect(await task.get()).toMatchObject({ status: 'running', failed: 2, succeeded: 17 })
    await fleet.succeed(told.slice(19, 20))
    expect(await task.get()).toMatchObject({ status: 'running', failed: 2, succeeded: 18 })
    await fleet.all(told.slice(20, 21), fail)
    const first = 'halted: 3 of 21 settled devices failed (14.3 %, the limit is 10 %)'
    expect(await task.get()).toMatchObject({ status: 'paused', pausedReason: first })
    await fleet.wait(10 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: first,
      counts: { total: 1000, pending: 878, pushed: 101, success: 18, failure: 3 },
    })

    // Resuming accepts these failures: twenty more devices must settle before the task halts again.
    expect((await task.post('/resume')).body).toMatchObject({ status: 'running', pausedReason: null })
    expect(await fleet.takeNotices()).toHaveLength(24)
    await fleet.all(told.slice(21, 40), fail)
    expect((await task.get()).status).toBe('running')
    await fleet.all(told.slice(40, 41), fail)
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: 'halted: 20 of 20 settled devices failed (100 %, the limit is 10 %)',
      failed: 23,
      succeeded: 18,
    })
  })

  it('devices that were never reached count neither as failed nor as settled in the halt rule', async () => {
    const fleet = await makeRolloutFleet()
    const waves = [{ percent: 10 }, { percent: 100 }]
    const task = await fleet.upgradeTo('v2', { policy: { ...policy, waves } })
    const frames = [...(await fleet.unexpected())]
    fleet.bridge.frames.length = 0
    expect(frames).toHaveLength(100)
    const byId = new Map(fleet.devices.map((device) => [device.id, device]))
    const told = frames.map(({ notice }) => byId.get(notice.device)!)
    await fleet.postAll(
      frames.flatMap((frame, at) => [sent(frame), taken(frame, at < 40 ? 'taken' : 'offline')]),
    )
    await fleet.all(told.slice(0, 3), fail)
    await fleet.all(told.slice(3, 39), (device) => progresses(device, 100))
    await fleet.all(told.slice(39, 40), disconnects)
    await fleet.wait(180 * MINUTE)
    // Of the 40 reached, three failed and one is gone: 10 %. Of all 100 it would be 4 %, or 64 % with the offline
    // ones.
    expect(await task.get()).toMatchObject({
      status: 'running',
      reached: 40,
      failed: 4,
      succeeded: 36,
      counts: { pending: 960, pushed: 1, success: 36, failure: 3 },
    })
    // One rollback more is over the limit.
    await fleet.all(told.slice(3, 4), (device) => reports(device, 'v1'))
    expect((await task.get()).pausedReason).toBe(
      'halted: 5 of 40 settled devices failed (12.5 %, the limit is 10 %)',
    )
  })

  it('the halt rule of a running task can be changed and removed', async () => {
    const fleet = await makeRolloutFleet(50)
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 10), fail)
    expect((await task.get()).status).toBe('running')
    await task.patch({ haltOn: { failurePercent: 50, minFinished: 10 } })
    moveClock(1)
    await fleet.takeNotices()
    expect((await task.get()).pausedReason).toBe(
      'halted: 10 of 10 settled devices failed (100 %, the limit is 50 %)',
    )
    await task.post('/resume')
    await task.patch({ haltOn: null })
    await fleet.all(told.slice(10), fail)
    expect(await countsOf(task)).toEqual({ total: 50, failure: 50 })
  })
})
