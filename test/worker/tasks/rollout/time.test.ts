import { describe, expect, it } from 'vitest'
import { spacing } from '../../../../src/tasks/rules/rollout.ts'
import { type LabDevice, over, progresses, reports, requests, subscribes } from '../../lab.ts'
import { moveClock, stopClock } from '../../lab-clock.ts'
import { countsOf, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE

const jumpTo = (time: string) => moveClock(Date.parse(time) - Date.now())
const part = <T>(list: T[], from: number, to: number) => list.slice(from, to)
const says = (step: number) => (device: LabDevice) => progresses(device, step)

async function pushToAll(fleet: RolloutFleet): Promise<LabDevice[]> {
  const told = await fleet.takeNotices()
  expect(told).toHaveLength(fleet.devices.length)
  return told
}

describe('deviceTimeoutMinutes', () => {
  it('a device times out `deviceTimeoutMinutes` after its latest message', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { deviceTimeoutMinutes: 30 } })
    const told = await pushToAll(fleet)
    await fleet.all(told, says(10))
    await fleet.wait(20 * MINUTE)
    await fleet.all(part(told, 0, 400), says(20))
    await fleet.wait(10 * MINUTE + SECOND)
    expect(await countsOf(task)).toEqual({ total: 1000, upgrading: 400, failure: 600 })
    await fleet.all(part(told, 0, 100), says(100))
    await fleet.wait(20 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, success: 100, failure: 900 })
    expect((await task.get()).failures).toEqual([
      {
        code: null,
        cause: 'timed_out',
        description: 'timed out',
        because: { code: 'timed_out', params: {} },
        count: 900,
      },
    ])
    // A version report after the timeout makes a late Success.
    await fleet.all(part(told, 100, 150), (device) => reports(device, 'v2'))
    expect(await countsOf(task)).toEqual({ total: 1000, success: 150, failure: 850 })
    expect((await task.get()).failures).toMatchObject([{ cause: 'timed_out', count: 850 }])
  })

  it('an outage of the bridge makes no device time out', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { deviceTimeoutMinutes: 30 } })
    await fleet.all(await pushToAll(fleet), says(10))
    moveClock(3 * HOUR)
    await fleet.wait(29 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, upgrading: 1000 })
    await fleet.wait(3 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, failure: 1000 })
  })
})

describe('autoRetry', () => {
  it('automatic retries repeat −1, −2 and timeouts after 10 and 20 minutes, and nothing else', async () => {
    const fleet = await makeRolloutFleet()
    const policy = { autoRetry: { times: 2, backoffMinutes: 10 }, deviceTimeoutMinutes: 5 }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await pushToAll(fleet)
    await fleet.all(part(told, 0, 100), says(-1))
    await fleet.all(part(told, 100, 200), says(-2))
    await fleet.all(part(told, 200, 300), says(-3))
    await fleet.all(part(told, 300, 400), says(-4))
    await fleet.all(part(told, 400, 500), says(50))
    await fleet.all(part(told, 500, 1000), says(100))
    await fleet.wait(5 * MINUTE + SECOND)
    expect(await countsOf(task)).toEqual({ total: 1000, success: 500, failure: 500 })
    expect((await task.device(told[0]!)).waitingFor).toMatch(/^its automatic retry at /)
    expectNone(await fleet.takeNotices())
    await fleet.wait(5 * MINUTE)
    const again = await fleet.takeNotices()
    expect(new Set(again)).toEqual(new Set(part(told, 0, 200)))
    expect((await task.device(again[0]!)).attempt).toBe(2)
    await fleet.all(again, says(-1))
    await fleet.wait(5 * MINUTE + SECOND)
    expect(new Set(await fleet.takeNotices())).toEqual(new Set(part(told, 400, 500)))
    await fleet.all(part(told, 400, 500), says(100))
    await fleet.wait(14 * MINUTE)
    expectNone(await fleet.takeNotices())
    await fleet.wait(MINUTE)
    expect(await fleet.takeNotices()).toHaveLength(200)
    await fleet.all(part(told, 0, 200), says(-2))
    await fleet.wait(24 * HOUR)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({
      status: 'finished',
      counts: { success: 600, failure: 400 },
      failures: [
        { code: -2, cause: 'download_failed', description: 'download failed: at -2', count: 200 },
        { code: -3, cause: 'verification_failed', description: 'verification failed: at -3', count: 100 },
        { code: -4, cause: 'write_failed', description: 'write failed: at -4', count: 100 },
      ],
    })
    expect((await task.device(told[0]!)).attempt).toBe(3)
    const { body } = await fleet.admin.call('GET', `/api/v1/tasks/${task.id}/report.csv`)
    const cells = (body as string)
      .trim()
      .split('\r\n')
      .slice(1)
      .map((line) => line.split(','))
    const codes = Object.groupBy(cells, (line) => line.at(-2)!)
    expect(
      Object.entries(codes)
        .map(([code, lines]) => [code, lines!.length])
        .sort(),
    ).toEqual([
      ["'-2", 200],
      ["'-3", 100],
      ["'-4", 100],
      ['', 600],
    ])
  })

  it('automatic retries repeat a wrong version if `on` lists it', async () => {
    const fleet = await makeRolloutFleet(2)
    const autoRetry = { times: 1, backoffMinutes: 10, on: ['wrong_version'] }
    const task = await fleet.upgradeTo('v2', { policy: { autoRetry, mismatchPushes: 0 } })
    const [wrong, broken] = (await fleet.takeNotices()) as [LabDevice, LabDevice]
    await fleet.all([wrong], (device) => reports(device, 'v1'))
    await fleet.all([broken], (device) => progresses(device, -1))
    expect((await task.device(wrong)).waitingFor).toMatch(/^its automatic retry at/)
    expect((await task.device(broken)).waitingFor).toBeNull()
    await fleet.wait(10 * MINUTE + SECOND)
    expect(await fleet.takeNotices()).toEqual([wrong])
  })

  it('automatic retries repeat only the codes in `on`', async () => {
    const fleet = await makeRolloutFleet()
    const policy = { autoRetry: { times: 1, backoffMinutes: 10, on: [-3] }, deviceTimeoutMinutes: 5 }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await pushToAll(fleet)
    await fleet.all(part(told, 0, 100), says(-1))
    await fleet.all(part(told, 100, 250), says(-2))
    await fleet.all(part(told, 250, 450), says(-3))
    await fleet.all(part(told, 450, 500), says(-4))
    await fleet.all(part(told, 500, 600), says(50))
    await fleet.all(part(told, 600, 1000), says(100))
    await fleet.wait(10 * MINUTE + SECOND)
    const again = await fleet.takeNotices()
    expect(new Set(again)).toEqual(new Set(part(told, 250, 450)))
    await fleet.all(part(told, 250, 300), says(-3))
    await fleet.all(part(told, 300, 450), says(100))
    await fleet.wait(24 * HOUR)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({ status: 'finished', counts: { success: 550, failure: 450 } })
  })

  it('an operator can retry a device before its automatic retry, or cancel that retry', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { autoRetry: { times: 1, backoffMinutes: 60 } } })
    const told = await pushToAll(fleet)
    await fleet.all(told, says(-1))
    const [one, two] = [told[0]!, told[1]!]
    expect((await task.post(`/devices/${one.id}/retry`)).body).toEqual({ retried: 1, skipped: [] })
    expect(await fleet.takeNotices()).toEqual([one])
    // The device stays a Failure; only its automatic retry is cancelled.
    expect((await task.post(`/devices/${two.id}/cancel`)).status).toBe(200)
    await fleet.wait(61 * MINUTE)
    expect(new Set(await fleet.takeNotices())).toEqual(new Set(part(told, 2, 1000)))
    expect((await task.device(two)).status).toBe('failure')
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 999, failure: 1 })

    // After an operator's retry the automatic retries are counted anew.
    await fleet.all([one], says(-1))
    await fleet.wait(61 * MINUTE)
    expect(await fleet.takeNotices()).toEqual([one])
    await fleet.all(part(told, 2, 1000), says(-1))
    await fleet.wait(24 * HOUR)
    expectNone(await fleet.takeNotices())
    expect((await task.post('/retry')).body).toEqual({ retried: 999, skipped: [] })
    expect(await fleet.takeNotices()).toHaveLength(999)
    await task.post('/cancel')
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, cancelled: 1000 })
  })
})

describe('window', () => {
  const window = {
    days: ['mon', 'tue', 'wed', 'thu', 'fri'],
    from: '01:00',
    to: '05:00',
    timeZone: 'Europe/Berlin',
  }

  it('notices go out only inside the window, not at the weekend, while upgrades under way go on', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    // Wednesday, 04:59 in Berlin, in winter.
    jumpTo('2032-01-07T03:59:00Z')
    await fleet.bridge.post([])
    const task = await fleet.upgradeTo('v2', { policy: { window, ratePerMinute: 120 } })
    let told = (await fleet.takeNotices()).length
    for (let step = 0; step < 120; step++) {
      moveClock(Math.ceil(spacing(120)))
      told += (await fleet.takeNotices()).length
    }
    // One at once, then one each 509 ms until 04:59:59.553, and none from 05:00 on.
    expect(told).toBe(118)
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 882, pushed: 118 })
    const waiting = (await fleet.admin.call('GET', `/api/v1/tasks/${task.id}/devices?status=pending&limit=2`))
      .body.items
    const [late, later] = waiting.map(({ deviceId }: { deviceId: string }) =>
      fleet.devices.find(({ id }) => id === deviceId),
    )
    expect((await task.device(late)).waitingFor).toBe('outside its window until 01:00 Europe/Berlin')
    fleet.bridge.replies.length = 0
    await fleet.all([late], (device) => requests(device, 'now'))
    await fleet.all([late], subscribes)
    expect((await over(later)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expectNone(await fleet.takeNotices())
    expect(fleet.bridge.replies).toHaveLength(1)

    const begun = (await fleet.admin.call('GET', `/api/v1/tasks/${task.id}/devices?status=pushed&limit=1`))
      .body.items
    const device = fleet.devices.find(({ id }) => id === begun[0].deviceId)!
    await fleet.all([device], says(50))
    await fleet.all([device], (each) => requests(each, 'again'))
    expect(await fleet.takeNotices()).toEqual([device])
    await fleet.all([device], says(100))
    expect((await task.device(device)).status).toBe('success')

    // Friday after the window: nothing goes out until Monday.
    jumpTo('2032-01-09T04:00:00Z')
    await fleet.bridge.post([])
    expectNone(await fleet.takeNotices())
    expect((await task.get()).waitingFor).toBe(
      'outside its window until Monday 2032-01-12 01:00 Europe/Berlin',
    )
    jumpTo('2032-01-11T23:59:00Z')
    await fleet.bridge.post([])
    expectNone(await fleet.takeNotices())
    await fleet.wait(60 * SECOND)
    expect(await fleet.takeNotices()).toHaveLength(1)
    await fleet.wait(Math.ceil(spacing(120)))
    expect(await fleet.takeNotices()).toHaveLength(1)
  })
})

describe('endAt', () => {
  it('the end cancels devices that have not begun, and lets the others finish within their timeout', async () => {
    const fleet = await makeRolloutFleet()
    const endAt = new Date(Date.now() + HOUR).toISOString()
    const policy = {
      waves: [{ percent: 50 }, { percent: 100 }],
      deviceTimeoutMinutes: 30,
      autoRetry: { times: 5 },
    }
    const task = await fleet.upgradeTo('v2', { endAt, policy })
    const told = await fleet.takeNotices()
    expect(told).toHaveLength(500)
    await fleet.wait(50 * MINUTE)
    await fleet.all(part(told, 0, 200), says(30))
    await fleet.wait(11 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, upgrading: 200, cancelled: 800 })
    expect((await task.device(told[499]!)).description).toBe("the task's end was reached")
    expect((await task.get()).status).toBe('running')
    await fleet.all(part(told, 0, 150), says(100))
    await fleet.wait(20 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({
      status: 'finished',
      counts: { success: 150, failure: 50, cancelled: 800 },
    })
    const retried = await task.post('/retry')
    expect([retried.status, retried.body.code]).toEqual([409, 'task.ended'])
  })
})

describe('mismatchPushes', () => {
  it.each([
    [0, 1],
    [3, 4],
  ])(
    'with %i re-pushes the version report number %i makes a Failure',
    async (mismatchPushes, reportsToFail) => {
      const fleet = await makeRolloutFleet()
      const task = await fleet.upgradeTo('v2', { policy: { mismatchPushes } })
      await pushToAll(fleet)
      for (let report = 1; report <= reportsToFail; report++) {
        expect(await countsOf(task)).toEqual({ total: 1000, pushed: 1000 })
        await fleet.all(fleet.devices, (device) => reports(device, 'v1'))
        expect(await fleet.takeNotices()).toHaveLength(report < reportsToFail ? 1000 : 0)
      }
      expect(await countsOf(task)).toEqual({ total: 1000, failure: 1000 })
    },
  )
})

describe('downloadTtlSeconds', () => {
  it('the link in each notice, and the notice with it, lives for `downloadTtlSeconds`', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    // Links expire at whole seconds.
    jumpTo('2032-01-07T00:00:00Z')
    await fleet.bridge.post([])
    const task = await fleet.upgradeTo('v2', { policy: { downloadTtlSeconds: 1234 } })
    const frames = [...(await fleet.unexpected())]
    expect(frames).toHaveLength(1000)
    for (const { payload, expiresInSeconds } of frames) {
      expect(new URL(JSON.parse(payload).params.url).searchParams.get('X-Amz-Expires')).toBe('1234')
      expect(expiresInSeconds).toBe(1234)
    }
    const told = await pushToAll(fleet)

    // −2 is a Failure while the link lives, and no Failure once it has expired.
    await fleet.wait(1233 * SECOND)
    await fleet.all(part(told, 0, 400), says(-2))
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 600, failure: 400 })
    await fleet.wait(SECOND)
    await fleet.all(part(told, 400, 1000), says(-2))
    expect(new Set(await fleet.takeNotices())).toEqual(new Set(part(told, 400, 1000)))
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 600, failure: 400 })
  })
})

describe('confirm', () => {
  const play = async (confirm: 'progress' | 'version') => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { confirm } })
    const told = await pushToAll(fleet)
    await fleet.all(told, says(100))
    const atHundred = await countsOf(task)
    await fleet.all(part(told, 0, 700), (device) => reports(device, 'v2'))
    await fleet.all(part(told, 700, 1000), (device) => reports(device, 'v1'))
    expectNone(await fleet.takeNotices())
    return { atHundred, view: await task.get() }
  }

  it('with `confirm: "version"` only the version report makes a Success, and the old version after 100 % makes a Failure', async () => {
    const { atHundred, view } = await play('version')
    expect(atHundred).toEqual({ total: 1000, upgrading: 1000 })
    expect(view).toMatchObject({
      status: 'finished',
      rolledBack: 300,
      counts: { success: 700, failure: 300 },
      reached: 1000,
      succeeded: 700,
      failed: 300,
      failures: [{ cause: 'rolled_back', description: 'rolled back: reported 100 %, runs v1', count: 300 }],
    })
  })

  it('with `confirm: "progress"` 100 % makes a Success, and a device that then reports the old version is marked as rolled back', async () => {
    const { atHundred, view } = await play('progress')
    expect(atHundred).toEqual({ total: 1000, success: 1000 })
    expect(view).toMatchObject({
      status: 'finished',
      rolledBack: 300,
      counts: { success: 1000, failure: 0 },
      failures: [],
      reached: 1000,
      succeeded: 700,
      failed: 300,
    })
  })
})
