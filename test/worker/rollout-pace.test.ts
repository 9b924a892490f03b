import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { spacing } from '../../src/tasks/rollout.ts'
import { type LabDevice, over, progresses, requests } from './lab.ts'
import { moveClock } from './lab-clock.ts'
import { countsOf, expectNone, makeRolloutFleet } from './rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND

/** When each notice of the task was sent, in order. */
const sendingTimes = (taskId: string): Promise<number[]> =>
  runInDurableObject(env.UPGRADE_TASK.getByName(taskId), (_, { storage }) =>
    storage.sql
      .exec<{ events: string }>('SELECT events FROM devices')
      .toArray()
      .flatMap(({ events }) => JSON.parse(events) as { at: number; kind: string }[])
      .filter(({ kind }) => kind === 'notice offered')
      .map(({ at }) => at)
      .sort((a, b) => a - b),
  )

const mostWithin = (times: number[], span: number) =>
  Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + span).length))

describe('ratePerMinute', () => {
  it('sends 1,000 devices their notices evenly, no more than 600 in any minute', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 600 } })
    while ((await countsOf(task)).pushed !== 1000) {
      await fleet.takeNotices()
      await fleet.wait(500)
    }
    const times = await sendingTimes(task.id)
    expect(times).toHaveLength(1000)
    expect(mostWithin(times, MINUTE)).toBeLessThanOrEqual(600)
    expect(mostWithin(times, 10 * SECOND)).toBeLessThanOrEqual(110)
    expect(times.filter((at) => at < times[0]! + SECOND).length).toBeLessThanOrEqual(20)
    // 590 a minute: what looks late must not slow it down.
    expect(times.at(-1)! - times[0]!).toBeLessThan(1000 * 102 + 5 * SECOND)
  }, 60_000)

  it('saves up nothing of a pause, and counts re-sends', async () => {
    const fleet = await makeRolloutFleet(100)
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 60 } })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(1)
    await task.post('/pause')
    await fleet.wait(10 * MINUTE)
    await task.post('/resume')
    expect(await fleet.takeNotices()).toHaveLength(1)
    // What a waiting device asks for is one of the notices of its second.
    await fleet.all(first, (device) => requests(device, 'r'))
    await fleet.wait(1100)
    expect((await fleet.takeNotices()).map(({ id }) => id)).toEqual([first[0]!.id])
  })

  it('may be changed while the task runs, and taken away', async () => {
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

  it('says about how long a device waits for its turn', async () => {
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

  it('of 1, 20 and 100 % have 10, 190 and 800 of 1,000 devices, and open one after the other', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(10)
    await fleet.all(first, (device) => progresses(device, 100))
    await fleet.wait(29 * MINUTE)
    expectNone(await fleet.takeNotices())
    await fleet.wait(MINUTE + SECOND)
    const second = await fleet.takeNotices()
    expect(second).toHaveLength(190)
    // 180 of 190 are 94.7 %.
    await fleet.all(second.slice(0, 180), (device) => progresses(device, 100))
    expectNone(await fleet.takeNotices())
    const others = fleet.devices.filter((device) => !first.includes(device) && !second.includes(device))
    expect((await task.device(others[0]!)).waitingFor).toBe(
      'wave 3 opens when 95 % of wave 2 succeeded (now 94.7 %)',
    )
    await fleet.all(second.slice(180, 181), (device) => progresses(device, 100))
    const third = await fleet.takeNotices()
    expect(new Set(third)).toEqual(new Set(others))
    await fleet.all([...second.slice(181), ...third], (device) => progresses(device, 100))
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

  it('begin their soak anew where one of the wave is rolled back meanwhile', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    const first = await fleet.takeNotices()
    await fleet.all(first, (device) => progresses(device, 100))
    await fleet.wait(20 * MINUTE)
    await fleet.all(
      first.slice(0, 1),
      (device) =>
        ({
          ...progresses(device, 100),
          topic: 'ota/device/inform',
          payload: btoa('{"id":"1","params":{"version":"v1"}}'),
        }) as never,
    )
    expect(await task.get()).toMatchObject({ rolledBack: 1, waves: [{ succeeded: 9, failed: 1 }, {}, {}] })
    await fleet.wait(60 * MINUTE)
    expectNone(await fleet.takeNotices())
  })

  it('open by hand, which is written down', async () => {
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

  it('of three devices have at least one in the first, and pass over one that is empty', async () => {
    const fleet = await makeRolloutFleet(3)
    await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 1 }, { percent: 2 }, { percent: 100 }] } })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(1)
    await fleet.all(first, (device) => progresses(device, 100))
    expect(await fleet.takeNotices()).toHaveLength(2)
  })

  it('tell a device of a later wave that nothing is due, whichever way it asks', async () => {
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
  const succeed = (device: LabDevice) => progresses(device, 100)

  it('waits for enough that have settled, allows just its limit, and stops over it', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { ...policy, ratePerMinute: 6000 } })
    await fleet.wait(30 * SECOND)
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 2), fail)
    await fleet.all(told.slice(2, 19), succeed)
    expect(await task.get()).toMatchObject({ status: 'running', failed: 2, succeeded: 17 })
    await fleet.all(told.slice(19, 20), succeed)
    expect(await task.get()).toMatchObject({ status: 'running', failed: 2, succeeded: 18 })
    await fleet.all(told.slice(20, 21), fail)
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: 'halted: 3 of 21 settled devices failed (14.3 %, the limit is 10 %)',
    })
    await fleet.wait(10 * MINUTE)
    expectNone(await fleet.takeNotices())

    // An operator accepts these three: twenty more must settle before it halts again.
    expect((await task.post('/resume')).body).toMatchObject({ status: 'running', pausedReason: null })
    await fleet.all(told.slice(21, 40), fail)
    expect((await task.get()).status).toBe('running')
    await fleet.all(told.slice(40, 41), fail)
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: 'halted: 20 of 20 settled devices failed (100 %, the limit is 10 %)',
    })
  })

  it('may be changed, and taken away, while the task runs', async () => {
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
