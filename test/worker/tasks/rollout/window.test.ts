import { describe, expect, it } from 'vitest'
import { spacing } from '../../../../src/tasks/rules/rollout.ts'
import { requests, subscribes } from '../../lab.ts'
import { moveClock, stopClock } from '../../lab-clock.ts'
import { countsOf, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const ASKING = 100

/** The bridge posts right after the jump, so that the server sees no outage of the bridge. */
async function jumpTo(fleet: RolloutFleet, time: string): Promise<void> {
  moveClock(Date.parse(time) - Date.now())
  await fleet.bridge.post([])
}

/** A hundred Pushed devices ask. Counts those that get a notice, and those that hear that nothing is due. */
async function askAt(fleet: RolloutFleet, time: string): Promise<[notices: number, nothingDue: number]> {
  await jumpTo(fleet, time)
  fleet.bridge.replies.length = 0
  await fleet.all(fleet.devices.slice(0, ASKING), (device) => requests(device, time.slice(11, 16)))
  const notices = (await fleet.takeNotices()).length
  return [notices, fleet.bridge.replies.filter(({ payload }) => payload.includes('"params":{}')).length]
}

const IN = [ASKING, 0]
const OUT = [0, ASKING]

const zones: [string, { from: string; to: string; timeZone: string }, string, [string, number[]][]][] = [
  [
    'when clocks go back in Berlin, and 02:00 to 03:00 comes twice',
    { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' },
    '2032-10-30T00:00:00Z',
    [
      ['2032-10-30T22:59:00Z', OUT],
      ['2032-10-30T23:01:00Z', IN],
      ['2032-10-31T00:30:00Z', IN],
      ['2032-10-31T01:30:00Z', IN],
      ['2032-10-31T03:59:00Z', IN],
      ['2032-10-31T04:01:00Z', OUT],
      ['2032-10-31T23:59:00Z', OUT],
      ['2032-11-01T00:01:00Z', IN],
    ],
  ],
  [
    'when clocks go forward in Berlin, and 02:00 to 03:00 is left out',
    { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' },
    '2032-03-27T01:00:00Z',
    [
      ['2032-03-27T23:59:00Z', OUT],
      ['2032-03-28T00:01:00Z', IN],
      ['2032-03-28T01:01:00Z', IN],
      ['2032-03-28T02:59:00Z', IN],
      ['2032-03-28T03:01:00Z', OUT],
      ['2032-03-28T22:59:00Z', OUT],
      ['2032-03-28T23:01:00Z', IN],
    ],
  ],
  [
    'over midnight in São Paulo',
    { from: '22:00', to: '02:00', timeZone: 'America/Sao_Paulo' },
    '2032-05-01T03:00:00Z',
    [
      ['2032-05-02T00:59:00Z', OUT],
      ['2032-05-02T01:01:00Z', IN],
      ['2032-05-02T02:59:00Z', IN],
      ['2032-05-02T03:01:00Z', IN],
      ['2032-05-02T04:59:00Z', IN],
      ['2032-05-02T05:01:00Z', OUT],
    ],
  ],
]

describe('windows', () => {
  it.each(zones)('a window holds %s', async (_, window, start, times) => {
    const fleet = await makeRolloutFleet()
    await jumpTo(fleet, start)
    await fleet.upgradeTo('v2', { policy: { window } })
    expect(await fleet.takeNotices()).toHaveLength(1000)
    for (const [time, expected] of times) {
      expect({ time, got: await askAt(fleet, time) }).toEqual({ time, got: expected })
    }
  })

  it('a window of weekdays opens on Monday after the night when the clocks went back', async () => {
    const fleet = await makeRolloutFleet()
    const window = {
      days: ['mon', 'tue', 'wed', 'thu', 'fri'],
      from: '01:00',
      to: '05:00',
      timeZone: 'Europe/Berlin',
    }
    // Friday, 05:00 in summer time, when the window closes.
    await jumpTo(fleet, '2032-10-29T03:00:00Z')
    const task = await fleet.upgradeTo('v2', { policy: { window } })
    for (const time of ['2032-10-29T23:30:00Z', '2032-10-30T23:30:00Z', '2032-10-31T02:00:00Z']) {
      await jumpTo(fleet, time)
      await fleet.all(fleet.devices.slice(0, ASKING), subscribes)
      expectNone(await fleet.takeNotices())
    }
    // 00:59 in winter time. In summer time it would be 01:59, inside the window.
    await jumpTo(fleet, '2032-10-31T23:59:00Z')
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 1000 })
    await fleet.wait(61 * SECOND)
    expect(await fleet.takeNotices()).toHaveLength(1000)
  })

  it('a closed window saves up nothing of the rate', async () => {
    const fleet = await makeRolloutFleet()
    stopClock()
    const window = { from: '01:00', to: '05:00', timeZone: 'UTC' }
    await jumpTo(fleet, '2032-01-06T00:59:00Z')
    const task = await fleet.upgradeTo('v2', { policy: { window, ratePerMinute: 60 } })
    expectNone(await fleet.takeNotices())
    await jumpTo(fleet, '2032-01-06T01:00:00Z')
    expect(await fleet.takeNotices()).toHaveLength(1)
    const step = Math.ceil(spacing(60))
    for (let notices = 2; notices <= 11; notices++) {
      await fleet.wait(step)
      await fleet.takeNotices()
    }
    expect((await countsOf(task)).pushed).toBe(11)
    await jumpTo(fleet, '2032-01-06T05:00:00Z')
    expectNone(await fleet.takeNotices())
    await jumpTo(fleet, '2032-01-07T01:00:00Z')
    expect(await fleet.takeNotices()).toHaveLength(1)
  })
})
