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
  it('sends all at the start', () => {
    expect(of({}, 1000)).toEqual({ waves: [], endsAt: START, notReached: 0 })
  })

  it('opens each wave once the one before has soaked', () => {
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
  it('passes over an empty one without its soak', () => {
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

  it('opens no wave after one that nobody is reached in', () => {
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

  it('has no end where there is no device', () => {
    expect(of({}, 0)).toEqual({ waves: [], endsAt: null, notReached: 0 })
  })
})

describe('with a rate', () => {
  it('takes its time for each notice but the first', () => {
    expect(of({ ratePerMinute: 1 }, 3).endsAt).toBe(START + 2 * 61_000)
    expect(of({ ratePerMinute: 600 }, 601).endsAt).toBe(START + 61_000)
  })

  it('counts who would not be reached before the end', () => {
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

  it('leaves out who is skipped, spread over the waves', () => {
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

  it('goes on at the same rate from one wave to the next', () => {
    const waves = [{ percent: 10 }, { percent: 50 }, { percent: 100 }]
    expect(of({ ratePerMinute: 1, waves }, 10).endsAt).toBe(of({ ratePerMinute: 1 }, 10).endsAt)
  })

  it('uses the rate for nothing while a wave soaks', () => {
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

  it('begins when it opens', () => {
    expect(of({ window }, 10).endsAt).toBe(at('2026-11-24T00:00:00Z'))
  })

  it('goes on the next night, and not at the weekend', () => {
    // 240 minutes a night, one notice in 61 s: 237 of them.
    expect(of({ window, ratePerMinute: 1 }, 238).endsAt).toBe(at('2026-11-25T00:00:00Z'))
    expect(of({ window, ratePerMinute: 1 }, 4 * 237 + 1).endsAt).toBe(at('2026-11-30T00:00:00Z'))
  })

  it('opens a wave whose soak ends outside it with the next opening', () => {
    const waves = [{ percent: 50, soakMinutes: 300 }, { percent: 100 }]
    expect(of({ window, waves }, 10)).toMatchObject({
      waves: [{ opensAt: at('2026-11-24T00:00:00Z') }, { opensAt: at('2026-11-25T00:00:00Z') }],
      endsAt: at('2026-11-25T00:00:00Z'),
    })
  })

  it('reaches nobody where the end is before the first opening', () => {
    const endAt = at('2026-11-24T00:00:00Z')
    expect(of({ window }, 10, 10, endAt)).toEqual({ waves: [], endsAt: null, notReached: 10 })
    expect(of({ window }, 10, 10, endAt + 1)).toEqual({ waves: [], endsAt: endAt, notReached: 0 })
  })

  it('sends as long as the clocks there say, on the nights when they change', () => {
    const night = { from: '01:00', to: '04:00', timeZone: 'Europe/Berlin' }
    // At 10 a minute one in 6.1 s: 1771 in three hours, 1181 in two, 2361 in four.
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

  it('is null where it never ends within five years', () => {
    const once = { days: ['mon'], from: '01:00', to: '01:01', timeZone: 'UTC' }
    expect(of({ window: once, ratePerMinute: 1 }, 1_000_000)).toMatchObject({ endsAt: null })
  })
})
