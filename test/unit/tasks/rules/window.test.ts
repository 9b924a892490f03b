import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { reason } from '../../../../src/reasons/reason.ts'
import { closedUntil, type TaskWindow, taskWindow, windowAt } from '../../../../src/tasks/rules/window.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
const at = (time: string) => Date.parse(time)

/** The periods in which the window is open, as pairs of ISO times without seconds. */
function openings(window: TaskWindow, from: string, to: string): string[] {
  const found: string[] = []
  const name = (ms: number) => new Date(ms).toISOString().slice(0, 16)
  for (let now = at(from); now < at(to); ) {
    const { open, changesAt } = windowAt(window, now)
    if (open) found.push(`${name(now)} ${name(Math.min(changesAt, at(to)))}`)
    now = changesAt
  }
  return found
}

const berlin = (from: string, to: string, days?: TaskWindow['days']): TaskWindow => ({
  from,
  to,
  timeZone: 'Europe/Berlin',
  ...(days && { days }),
})

describe('Europe/Berlin when clocks go forward, 2026-03-29 at 02:00', () => {
  const night = ['2026-03-28T12:00Z', '2026-03-30T12:00Z'] as const

  it('when clocks go forward, a window without the change keeps its hours', () => {
    expect(openings(berlin('04:00', '05:00'), ...night)).toEqual([
      '2026-03-29T02:00 2026-03-29T03:00',
      '2026-03-30T02:00 2026-03-30T03:00',
    ])
  })

  it('when clocks go forward, a window with the change is an hour shorter', () => {
    expect(openings(berlin('01:00', '05:00'), ...night)).toEqual([
      '2026-03-29T00:00 2026-03-29T03:00',
      '2026-03-29T23:00 2026-03-30T03:00',
    ])
  })

  it('when clocks go forward, a window that would begin in the gap opens right after it', () => {
    expect(openings(berlin('02:30', '04:00'), ...night)).toEqual([
      '2026-03-29T01:00 2026-03-29T02:00',
      '2026-03-30T00:30 2026-03-30T02:00',
    ])
  })

  it('when clocks go forward, a window that would end in the gap closes at it', () => {
    expect(openings(berlin('01:00', '02:30'), ...night)[0]).toBe('2026-03-29T00:00 2026-03-29T01:00')
  })

  it('when clocks go forward, a window wholly in the gap does not open that day', () => {
    expect(openings(berlin('02:00', '03:00'), ...night)).toEqual(['2026-03-30T00:00 2026-03-30T01:00'])
  })
})

describe('Europe/Berlin when clocks go back, 2026-10-25 at 03:00', () => {
  const night = ['2026-10-24T12:00Z', '2026-10-26T12:00Z'] as const

  it('when clocks go back, a window with the change is an hour longer', () => {
    expect(openings(berlin('01:00', '05:00'), ...night)).toEqual([
      '2026-10-24T23:00 2026-10-25T04:00',
      '2026-10-26T00:00 2026-10-26T04:00',
    ])
  })

  it('when clocks go back, an hour that comes twice counts twice', () => {
    expect(openings(berlin('02:00', '03:00'), ...night)[0]).toBe('2026-10-25T00:00 2026-10-25T02:00')
    expect(openings(berlin('01:00', '02:30'), ...night).slice(0, 2)).toEqual([
      '2026-10-24T23:00 2026-10-25T00:30',
      '2026-10-25T01:00 2026-10-25T01:30',
    ])
  })
})

describe('a window over midnight', () => {
  const saoPaulo: TaskWindow = { days: ['fri'], from: '22:00', to: '02:00', timeZone: 'America/Sao_Paulo' }

  it('a window over midnight opens on the days that it names and stays open into the next day', () => {
    // UTC−3 all year.
    expect(openings(saoPaulo, '2026-11-23T00:00Z', '2026-12-07T00:00Z')).toEqual([
      '2026-11-28T01:00 2026-11-28T05:00',
      '2026-12-05T01:00 2026-12-05T05:00',
    ])
  })

  it('a window over midnight without days opens every night', () => {
    const { days: _, ...every } = saoPaulo
    expect(openings(every, '2026-11-23T06:00Z', '2026-11-25T06:00Z')).toEqual([
      '2026-11-24T01:00 2026-11-24T05:00',
      '2026-11-25T01:00 2026-11-25T05:00',
    ])
  })

  it('a window follows the clocks of São Paulo in a year in which they still changed', () => {
    // On 2018-11-04 the clocks went forward at 00:00: 23:59 was followed by 01:00.
    const every: TaskWindow = { from: '23:00', to: '02:00', timeZone: 'America/Sao_Paulo' }
    expect(openings(every, '2018-11-03T12:00Z', '2018-11-05T12:00Z')).toEqual([
      '2018-11-04T02:00 2018-11-04T04:00',
      '2018-11-05T01:00 2018-11-05T04:00',
    ])
  })
})

describe('other zones', () => {
  const nightIn = (timeZone: string): TaskWindow => ({ from: '01:00', to: '03:00', timeZone })

  it('a window follows zones with an offset of half an hour and zones whose clocks never change', () => {
    const day = ['2026-03-28T12:00Z', '2026-03-29T12:00Z'] as const
    expect(openings(nightIn('Asia/Kolkata'), ...day)).toEqual(['2026-03-28T19:30 2026-03-28T21:30'])
    expect(openings(nightIn('UTC'), ...day)).toEqual(['2026-03-29T01:00 2026-03-29T03:00'])
  })

  it('a window follows clocks that change by half an hour', () => {
    // Lord Howe: on 2026-04-05 at 02:00 back to 01:30, on 2026-10-04 at 02:00 forward to 02:30.
    const there = nightIn('Australia/Lord_Howe')
    expect(openings(there, '2026-04-04T06:00Z', '2026-04-05T06:00Z')).toEqual([
      '2026-04-04T14:00 2026-04-04T16:30',
    ])
    expect(openings(there, '2026-10-03T06:00Z', '2026-10-04T06:00Z')).toEqual([
      '2026-10-03T14:30 2026-10-03T16:00',
    ])
  })

  it('a window does not open on a day that its zone left out', () => {
    // Apia went from Thursday 2011-12-29 to Saturday the 31st.
    const there: TaskWindow = { from: '22:00', to: '02:00', timeZone: 'Pacific/Apia' }
    const days = ['2011-12-29T12:00Z', '2012-01-01T12:00Z'] as const
    expect(openings({ ...there, days: ['thu'] }, ...days)).toEqual(['2011-12-30T08:00 2011-12-30T10:00'])
    expect(openings({ ...there, days: ['fri'] }, ...days)).toEqual(['2011-12-30T10:00 2011-12-30T12:00'])
    expect(openings({ ...there, days: ['sat'] }, ...days)).toEqual(['2011-12-31T08:00 2011-12-31T12:00'])
  })

  it('a fixed offset is a zone whose clocks never change', () => {
    expect(openings(nightIn('+02:00'), '2026-10-24T12:00Z', '2026-10-26T12:00Z')).toEqual([
      '2026-10-24T23:00 2026-10-25T01:00',
      '2026-10-25T23:00 2026-10-26T01:00',
    ])
  })
})

describe('any window in any zone', () => {
  const time = fc
    .record({ hour: fc.nat(23), minute: fc.constantFrom(0, 1, 15, 30, 59) })
    .map(({ hour, minute }) => `${String(hour).padStart(2, '0')}:${String(minute).padStart(2, '0')}`)
  const days = fc.option(
    fc.uniqueArray(fc.constantFrom('mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'), { minLength: 1 }),
    { nil: undefined },
  )
  const zones = [
    'Europe/Berlin',
    'America/Sao_Paulo',
    'Asia/Kolkata',
    'Australia/Lord_Howe',
    'Pacific/Apia',
    'America/St_Johns',
    'Africa/Casablanca',
    'UTC',
  ]
  const window = fc
    .record({ from: time, to: time, timeZone: fc.constantFrom(...zones), days })
    .filter(({ from, to }) => from !== to)
  // Around changes of clocks, and one date without any.
  const moment = fc.oneof(
    ...[
      '2026-03-29T01:00Z',
      '2026-10-25T01:00Z',
      '2026-04-04T15:00Z',
      '2026-10-03T15:30Z',
      '2026-06-01T00:00Z',
      '2018-11-04T03:00Z',
      '2011-12-30T10:00Z',
    ].map((change) =>
      fc.integer({ min: -DAY / MINUTE, max: DAY / MINUTE }).map((minutes) => at(change) + minutes * MINUTE),
    ),
  )

  /** The same rule by another library than the code's: what a clock on the wall in the zone shows. */
  function isOpenByTheClock({ from, to, timeZone, days }: TaskWindow, now: number): boolean {
    const shown = (time: number) => {
      const parts = new Intl.DateTimeFormat('en-GB', {
        timeZone,
        weekday: 'short',
        hour: '2-digit',
        minute: '2-digit',
        hourCycle: 'h23',
      }).formatToParts(time)
      const part = (type: string) => parts.find((each) => each.type === type)!.value
      return { day: part('weekday').toLowerCase(), clock: `${part('hour')}:${part('minute')}` }
    }
    const { day, clock } = shown(now)
    const names = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
    const dayBefore = names[(names.indexOf(day) + 6) % 7]!
    const opensOn = (name: string) => days === undefined || (days as string[]).includes(name)
    if (from < to) return from <= clock && clock < to && opensOn(day)
    return clock >= from ? opensOn(day) : clock < to && opensOn(dayBefore)
  }

  it('any window in any zone is open exactly while a clock there says so, and tells when that changes', () => {
    fc.assert(
      fc.property(window, moment, (which, now) => {
        const { open, changesAt } = windowAt(which as TaskWindow, now)
        expect(open).toBe(isOpenByTheClock(which as TaskWindow, now))
        expect(changesAt).toBeGreaterThan(now)
        expect(isOpenByTheClock(which as TaskWindow, changesAt)).toBe(!open)
        expect(isOpenByTheClock(which as TaskWindow, changesAt - 1)).toBe(open)
        const last = Math.min(changesAt, now + 2 * DAY)
        for (let between = now; between < last; between += 10 * MINUTE) {
          expect(isOpenByTheClock(which as TaskWindow, between)).toBe(open)
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('what operators read', () => {
  it("the reason says until when the window is closed, in the window's own zone", () => {
    const window = berlin('01:00', '05:00')
    expect(closedUntil(window, at('2026-11-23T12:00Z'))).toEqual(
      reason('outside_window', { time: '01:00', timeZone: 'Europe/Berlin' }),
    )
  })

  it('the reason has a date if the window opens more than a day later', () => {
    const window = berlin('01:00', '05:00', ['mon'])
    const monday = { weekday: reason('day_mon'), date: '2026-11-30' }
    expect(closedUntil(window, at('2026-11-24T12:00Z'))).toEqual(
      reason('outside_window', { ...monday, time: '01:00', timeZone: 'Europe/Berlin' }),
    )
  })
})

describe('what operators write', () => {
  const faults = (more: Record<string, unknown>) => {
    const read = taskWindow.safeParse({ from: '01:00', to: '05:00', timeZone: 'Europe/Berlin', ...more })
    return read.success ? [] : read.error.issues.map(({ path }) => path.join('.'))
  }

  it.each([
    ['a length of zero', { to: '01:00' }, ['to']],
    ['an unknown zone', { timeZone: 'Europe/Atlantis' }, ['timeZone']],
    ['an empty zone', { timeZone: '' }, ['timeZone']],
    ['an old abbreviation', { timeZone: 'PST' }, ['timeZone']],
    ['a whole date for a zone', { timeZone: '2026-01-01[Europe/Berlin]' }, ['timeZone']],
    ['an offset with a typographic minus', { timeZone: '\u221202:00' }, ['timeZone']],
    ['an offset of seconds', { timeZone: '+02:00:30' }, ['timeZone']],
    ['a time that does not exist', { from: '24:00' }, ['from']],
    ['a time without its zero', { to: '5:00' }, ['to']],
    ['no day', { days: [] }, ['days']],
    ['a day twice', { days: ['mon', 'mon'] }, ['days']],
    ['an unknown day', { days: ['monday'] }, ['days.0']],
  ])('a window with %s is refused', (_, more, paths) => {
    expect(faults(more)).toEqual(paths)
  })

  it.each(['europe/berlin', 'EUROPE/BERLIN', 'utc', 'Etc/GMT+5', '+02:00', '-0530', 'US/Pacific'])(
    'the zone %s is accepted',
    (timeZone) => {
      expect(faults({ timeZone })).toEqual([])
    },
  )

  it('every accepted zone has a clock that can be told', () => {
    const abbreviations = ['ACT', 'AET', 'AGT', 'ART', 'AST', 'BET', 'BST', 'CAT', 'CET', 'CNT', 'CST', 'CTT']
      .concat(['EAT', 'ECT', 'EET', 'EST', 'HST', 'IET', 'IST', 'JST', 'MET', 'MIT', 'MST', 'NET', 'NST'])
      .concat(['PLT', 'PNT', 'PRT', 'PST', 'SST', 'VST', 'WET', 'ROC', 'ROK', 'PRC', 'SystemV/PST8'])
    const zones = [...Intl.supportedValuesOf('timeZone'), ...abbreviations]
    const taken = zones.filter((timeZone) => faults({ timeZone }).length === 0)
    expect(taken.length).toBeGreaterThan(400)
    for (const timeZone of taken) {
      const now = at('2026-06-01T12:00Z')
      expect(windowAt({ from: '01:00', to: '05:00', timeZone }, now).changesAt).toBeGreaterThan(now)
    }
  })

  it('a window may name any day and go over midnight', () => {
    expect(faults({ from: '22:00', to: '02:00', days: ['sun', 'sat'] })).toEqual([])
  })
})
