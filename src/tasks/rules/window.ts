import { Temporal } from 'temporal-polyfill'
import { z } from 'zod'
import { type Reason, reason } from '../../reasons/reason.ts'

// The hours in which a task may send. Only what the clocks in its zone read decides.

const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
/** 1970-01-01, day 0, was a Thursday. */
const WEEKDAY_OF_DAY_0 = 4
const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be a time from 00:00 to 23:59')

const timeZone = z
  .string()
  .max(64, 'must be at most 64 characters')
  .refine(isTimeZone, 'is not a known time zone, such as Europe/Berlin')

/** A task's `policy.window`. Without `days` it opens every day; `to` before `from` goes over midnight. */
export const taskWindow = z
  .strictObject({
    /** The days on which it opens; over midnight it stays open into the next day. */
    days: z
      .array(z.enum(WEEKDAYS))
      .min(1, 'must name a day')
      .refine((days) => new Set(days).size === days.length, 'must not name a day twice')
      .optional(),
    from: timeOfDay,
    to: timeOfDay,
    timeZone,
  })
  .refine(({ from, to }) => from !== to, { path: ['to'], message: 'must differ from `from`' })
export type TaskWindow = z.infer<typeof taskWindow>

/**
 * Is the window open at `now` (ms), and when does that next change (ms)?
 *
 * It is open exactly while the clocks in its zone read `from` or later and not yet `to`, so nothing is sent at an hour
 * that people there would not call the window. When clocks go forward, a window whose `from` is left out opens right
 * after the gap; a window that lies wholly within the gap does not open that day. When clocks go back, hours that come
 * twice count twice: 02:00 to 03:00 lasts two hours, and 01:00 to 02:30 closes at the first 02:30 and opens again for the
 * second half-hour from 02:00 to 02:30.
 */
export function windowAt(window: TaskWindow, now: number): { open: boolean; changesAt: number } {
  const hours = readHours(window)
  let span = spanAt(window.timeZone, now)
  const open = isOpen(hours, now + span.offset)
  let from = now
  for (;;) {
    const changesAt = nextChange(hours, from + span.offset, open) - span.offset
    // Ends: within days it opens or closes, and no zone changes its clocks that often.
    if (changesAt < span.until) return { open, changesAt }
    from = span.until
    span = spanAt(window.timeZone, from)
    if (isOpen(hours, from + span.offset) !== open) return { open, changesAt: from }
  }
}

/** Until when a window that is closed at `now` (ms) stays closed; with the date if that is a day or more. */
export function closedUntil(window: TaskWindow, now: number): Reason {
  const { changesAt } = windowAt(window, now)
  const local = changesAt + spanAt(window.timeZone, changesAt).offset
  const [date, time] = new Date(local).toISOString().split('T') as [string, string]
  const day = changesAt - now < DAY_MS ? {} : { weekday: reason(`day_${WEEKDAYS[weekdayOf(local)]!}`), date }
  return reason('outside_window', { ...day, time: time.slice(0, 5), timeZone: window.timeZone })
}

// ---- Readings: milliseconds since 1970 as the zone's clocks show them -----------------------------------

interface Hours {
  from: number
  to: number
  opensOn: (reading: number) => boolean
}

function readHours({ days, from, to }: TaskWindow): Hours {
  const opensOn = (reading: number) => days?.includes(WEEKDAYS[weekdayOf(reading)]!) ?? true
  return { from: sinceMidnight(from), to: sinceMidnight(to), opensOn }
}

const sinceMidnight = (time: string) => (Number(time.slice(0, 2)) * 60 + Number(time.slice(3))) * MINUTE_MS

/** 0 is Sunday, also before 1970. */
const weekdayOf = (reading: number) => (((Math.floor(reading / DAY_MS) + WEEKDAY_OF_DAY_0) % 7) + 7) % 7

function isOpen({ from, to, opensOn }: Hours, reading: number): boolean {
  const time = reading - Math.floor(reading / DAY_MS) * DAY_MS
  if (from < to) return from <= time && time < to && opensOn(reading)
  return time >= from ? opensOn(reading) : time < to && opensOn(reading - DAY_MS)
}

/** The first reading after this one that is no longer as `open` says, were the clocks never changed. */
function nextChange(hours: Hours, reading: number, open: boolean): number {
  for (let midnight = Math.floor(reading / DAY_MS) * DAY_MS; ; midnight += DAY_MS) {
    const edge = midnight + (open ? hours.to : hours.from)
    if (edge > reading && isOpen(hours, edge) !== open) return edge
  }
}

// ---- Zones ----------------------------------------------------------------------------------------------

/** A stretch in which a zone's clocks are not changed; `offset`: what they are ahead of UTC. Milliseconds. */
interface Span {
  from: number
  until: number
  offset: number
}

/** To ask the zone is slow, and this is asked for every page of notices. Bounded, since operators name the zones. */
const spansOfZone = new Map<string, Span[]>()
const MAX_ZONES = 100
const MAX_SPANS = 16

function spanAt(timeZone: string, at: number): Span {
  const known = spansOfZone.get(timeZone) ?? []
  const cached = known.find(({ from, until }) => from <= at && at < until)
  if (cached) return cached
  const zoned = Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(timeZone)
  const until = zoned.getTimeZoneTransition('next')?.epochMilliseconds ?? Number.POSITIVE_INFINITY
  const span = { from: at, until, offset: zoned.offsetNanoseconds / 1e6 }
  if (spansOfZone.size >= MAX_ZONES) spansOfZone.clear()
  spansOfZone.set(timeZone, [...known.slice(1 - MAX_SPANS), span])
  return span
}

/**
 * Of the two libraries, `Intl` would take a few old abbreviations ("PST") that Temporal does not, and Temporal a zone
 * out of a whole date: only what both know is one. Fixed offsets ("+02:00") are; no clocks are changed there.
 */
function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(name)
    return true
  } catch {
    return false
  }
}
