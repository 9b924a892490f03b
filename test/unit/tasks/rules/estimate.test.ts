import { describe, expect, it } from 'vitest'
import { estimate } from '../../../../src/tasks/rules/estimate.ts'
import { taskPolicy } from '../../../../src/tasks/rules/task.ts'

const MINUTE = 60_000
const START = Date.parse('2026-11-23T12:00:00Z')

const of = (
  policy: Record<string, unknown>,
  devices: number,
  notices = devices,
  endAt: number | null = null,
) => estimate({ startAt: START, endAt, policy: taskPolicy.parse(policy) }, devices, notices)
const at = (time: string) => Date.parse(time)

describe('without a rate', () => {
  it('without a rate all notices go out at the start', () => {
    expect(of({}, 1000)).toEqual({ waves: [], endsAt: START, notReached: 0 })
  })

  it('a wave opens when the wave before it has soaked', () => {
    const waves = [{ percent: 1, soakMinutes: 30 }, { percent: 20, soakMinutes: 60 }, { percent: 100 }]
    expect(of({ waves }, 1000)).toEqual({
      waves: [
        { percent: 1, devices: 10, opensAt: START },
        { percent: 20, devices: 190, opensAt: START + 30 * MINUTE },
        { percent: 100, devices: 800, opensAt: START + 90 * MINUTE },
      ],
      endsAt: START + 90 * MINUTE,
      notReached: 0,
    })
  })
})

describe('waves that send nothing', () => {
  it('an empty wave is passed over without its soak', () => {
    const soak = { soakMinutes: 30 }
    const waves = [
      { percent: 1, ...soak },
      { percent: 2, ...soak },
      { percent: 99, ...soak },
      { percent: 100 },
    ]
    expect(of({ waves }, 10)).toEqual({
      waves: [
        { percent: 1, devices: 1, opensAt: START },
        { percent: 2, devices: 0, opensAt: START + 30 * MINUTE },
        { percent: 99, devices: 9, opensAt: START + 30 * MINUTE },
        { percent: 100, devices: 0, opensAt: START + 60 * MINUTE },
      ],
      endsAt: START + 30 * MINUTE,
      notReached: 0,
    })
  })

  it('no wave opens after one in which no device gets a notice', () => {
    const waves = [{ percent: 50 }, { percent: 100 }]
    expect(of({ waves }, 10, 0)).toEqual({
      waves: [
        { percent: 50, devices: 5, opensAt: START },
        { percent: 100, devices: 5, opensAt: null },
      ],
      endsAt: null,
      notReached: 0,
    })
  })

  it('a task without devices has no end', () => {
    expect(of({}, 0)).toEqual({ waves: [], endsAt: null, notReached: 0 })
  })
})

describe('with a rate', () => {
  it('the rate delays each notice but the first', () => {
    expect(of({ ratePerMinute: 1 }, 3).endsAt).toBe(START + 2 * 61_000)
    expect(of({ ratePerMinute: 600 }, 601).endsAt).toBe(START + 61_000)
  })

  it('devices whose notice would come after the end of the task are counted', () => {
    const policy = { ratePerMinute: 1, waves: [{ percent: 50 }, { percent: 100 }] }
    expect(of(policy, 10, 10, START + 3 * MINUTE)).toEqual({
      waves: [
        { percent: 50, devices: 5, opensAt: START },
        { percent: 100, devices: 5, opensAt: null },
      ],
      endsAt: null,
      notReached: 7,
    })
  })

  it('skipped devices are left out evenly from all waves', () => {
    const policy = { ratePerMinute: 1, waves: [{ percent: 50 }, { percent: 100 }] }
    expect(of(policy, 10, 4)).toMatchObject({
      waves: [
        { devices: 5, opensAt: START },
        { devices: 5, opensAt: START + 61_000 },
      ],
      endsAt: START + 3 * 61_000,
      notReached: 0,
    })
  })

  it('the rate goes on across waves', () => {
    const waves = [{ percent: 10 }, { percent: 50 }, { percent: 100 }]
    expect(of({ ratePerMinute: 1, waves }, 10).endsAt).toBe(of({ ratePerMinute: 1 }, 10).endsAt)
  })

  it('no rate is saved up while a wave soaks', () => {
    const waves = [{ percent: 50, soakMinutes: 30 }, { percent: 100 }]
    expect(of({ ratePerMinute: 1, waves }, 4).endsAt).toBe(START + 61_000 + 30 * MINUTE + 61_000)
  })
})

describe('with a window', () => {
  const window = {
    days: ['mon', 'tue', 'wed', 'thu', 'fri'],
    from: '01:00',
    to: '05:00',
    timeZone: 'Europe/Berlin',
  }

  it('the first notice goes out when the window opens', () => {
    expect(of({ window }, 10).endsAt).toBe(at('2026-11-24T00:00:00Z'))
  })

  it('notices go on in the next night on which the window opens', () => {
    // 240 minutes a night at one notice every 61 s are 237 notices.
    expect(of({ window, ratePerMinute: 1 }, 238).endsAt).toBe(at('2026-11-25T00:00:00Z'))
    expect(of({ window, ratePerMinute: 1 }, 4 * 237 + 1).endsAt).toBe(at('2026-11-30T00:00:00Z'))
  })

  it('a wave whose soak ends outside the window opens with the next opening', () => {
    const waves = [{ percent: 50, soakMinutes: 300 }, { percent: 100 }]
    expect(of({ window, waves }, 10)).toMatchObject({
      waves: [{ opensAt: at('2026-11-24T00:00:00Z') }, { opensAt: at('2026-11-25T00:00:00Z') }],
      endsAt: at('2026-11-25T00:00:00Z'),
    })
  })

  it('no device is reached if the task ends before the window opens', () => {
    const endAt = at('2026-11-24T00:00:00Z')
    expect(of({ window }, 10, 10, endAt)).toEqual({ waves: [], endsAt: null, notReached: 10 })
    expect(of({ window }, 10, 10, endAt + 1)).toEqual({ waves: [], endsAt: endAt, notReached: 0 })
  })

  it('the window is an hour longer or shorter in nights in which the clocks change', () => {
    const night = { from: '01:00', to: '04:00', timeZone: 'Europe/Berlin' }
    // At 10 a minute, one every 6.1 s: 1771 in three hours, 1181 in two, 2361 in four.
    const sent = (start: string, end: string) =>
      3000 -
      estimate(
        {
          startAt: at(start),
          endAt: at(end),
          policy: taskPolicy.parse({ window: night, ratePerMinute: 10 }),
        },
        3000,
        3000,
      ).notReached
    expect(sent('2026-03-27T12:00Z', '2026-03-28T12:00Z')).toBe(1771)
    expect(sent('2026-03-28T12:00Z', '2026-03-29T12:00Z')).toBe(1181)
    expect(sent('2026-10-24T12:00Z', '2026-10-25T12:00Z')).toBe(2361)
  })

  it('the end is null if it is more than five years away', () => {
    const once = { days: ['mon'], from: '01:00', to: '01:01', timeZone: 'UTC' }
    expect(of({ window: once, ratePerMinute: 1 }, 1_000_000)).toMatchObject({ endsAt: null })
  })
})
