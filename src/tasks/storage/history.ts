import type { EventCode, Params } from '../../reasons/reason.ts'
import type { UpgradeStatus } from '../rules/upgrade.ts'

/** What happened to a device in a task, and when. */
export interface HistoryEvent {
  /** Milliseconds since 1970. */
  at: number
  code: EventCode
  params: Params
  /** The state that it led to, if it changed the state. */
  status?: UpgradeStatus | undefined
  /** The fingerprint of the message that caused it: tells a repeated message from a new one. */
  key?: string | undefined
}

type Detail = string | Params | null

/**
 * An event as it is stored: a fifth of its size with names, so that the row of a usual upgrade fits into one page of
 * SQLite's tree. What is like the event before says only what differs: its time in ms since then (the first event's
 * since 1970), 0 for the same code, and a number for the same detail with that number in it.
 */
type Stored = [
  since: number,
  code: string | 0,
  detail: Detail | number,
  status?: UpgradeStatus | 0,
  key?: string,
]

const MAX_EVENTS = 50
const MAX_BYTES = 8 * 1024
const MAX_BYTES_OF_UNIT = 3

/**
 * At most 50 events in at most 8 KB: how each of the latest attempts began (its start, first notice and first progress),
 * and the last ones.
 */
export function writeEvents(events: HistoryEvent[]): string {
  let kept = thinned(events, MAX_EVENTS)
  for (;;) {
    const text = toText(kept)
    if (fits(text) || kept.length <= 1) return text
    kept = thinned(kept, kept.length - 1)
  }
}

/** Attempts whose beginning is kept. */
const MAX_BEGINNINGS = 4
const STARTS: ReadonlySet<EventCode> = new Set(['retried', 'retried_automatically'])
const NOTICES: ReadonlySet<EventCode> = new Set(['notice_offered', 'notice_sent', 'notice_handed_out'])
const PROGRESS: ReadonlySet<EventCode> = new Set(['progress', 'damaged_progress'])

/** Leaves out what is oldest of what is no beginning; if there is nothing else, the oldest beginnings. */
function thinned(events: HistoryEvent[], count: number): HistoryEvent[] {
  if (events.length <= count) return events
  const beginnings = beginningsOf(events)
  let excess = events.length - count
  const kept = events.filter((_, index) => {
    if (excess === 0 || beginnings.has(index) || index === events.length - 1) return true
    excess--
    return false
  })
  return kept.slice(excess)
}

/** The places of the events by which the latest attempts began. */
function beginningsOf(events: HistoryEvent[]): Set<number> {
  const starts = events.flatMap(({ code }, index) => (STARTS.has(code) ? [index] : []))
  const found = new Set<number>()
  for (const start of [0, ...starts].slice(-MAX_BEGINNINGS)) {
    const next = starts.find((other) => other > start) ?? events.length
    const first = (codes: ReadonlySet<EventCode>) =>
      events.findIndex(({ code }, index) => index >= start && index < next && codes.has(code))
    for (const index of [start, first(NOTICES), first(PROGRESS)]) if (index >= 0) found.add(index)
  }
  return found
}

/**
 * The history with one more event. A device that asks over HTTPS again and again, and is handed the same notice, takes one
 * line with a count.
 */
export function withEvent(events: HistoryEvent[], event: HistoryEvent): HistoryEvent[] {
  const handed = events.at(-1)?.code === 'notice_handed_out' ? events.at(-1) : undefined
  const asked = events.at(handed ? -2 : -1)
  const isSame =
    event.code === 'asked' &&
    event.key === undefined &&
    event.status === undefined &&
    asked?.code === 'asked' &&
    asked.key === undefined &&
    asked.status === undefined &&
    handed?.status === undefined &&
    asked.params.via === event.params.via
  if (!isSame) return [...events, event]
  const count = Number(asked.params.count ?? 1) + 1
  return [...events.slice(0, handed ? -2 : -1), { ...event, params: { ...event.params, count } }]
}

const utf8 = new TextEncoder()

const fits = (text: string) =>
  text.length * MAX_BYTES_OF_UNIT <= MAX_BYTES || utf8.encode(text).length <= MAX_BYTES

function toText(events: HistoryEvent[]): string {
  return JSON.stringify(
    events.map((event, index): Stored => {
      const before = events[index - 1]
      return event instanceof StoredEvent && event.before === before ? event.stored : toStored(event, before)
    }),
  )
}

function toStored(event: HistoryEvent, before: HistoryEvent | undefined): Stored {
  const { at, code, status, key } = event
  const since = at - (before?.at ?? 0)
  const detail = shorten(detailOf(event), before && detailOf(before))
  const stored = [since, before && code === storedCode(before) ? 0 : code, detail] as const
  if (key !== undefined) return [...stored, status ?? 0, key]
  return status === undefined ? [...stored] : [...stored, status]
}

const storedCode = (event: HistoryEvent) => (event instanceof StoredEvent ? event.storedCode : event.code)

// ---- Details --------------------------------------------------------------------------------------------

/** Most events have one parameter, which is stored as a bare text. */
const ONLY_PARAMETER: { [code in EventCode]?: string } = {
  notice_offered: 'noticeId',
  notice_sent: 'noticeId',
  notice_taken: 'noticeId',
  notice_offline: 'noticeId',
  notice_returned: 'noticeId',
  notice_handed_out: 'noticeId',
  cancellation_taken: 'noticeId',
  version: 'version',
  late_version: 'version',
  asked: 'via',
  slot_freed: 'taskId',
  slot_busy: 'taskId',
  replaced: 'taskId',
  superseded: 'taskId',
}

/** The step, a blank, and what the device said. */
const isProgress = (code: EventCode) => code === 'progress' || code === 'late_progress'

const detailOf = (event: HistoryEvent): Detail =>
  event instanceof StoredEvent ? event.detail : toDetail(event.code, event.params)

function toDetail(code: EventCode, params: Params): Detail {
  if (typeof params.text === 'string') return params.text
  if (params.named !== undefined || params.count !== undefined) return params
  if (isProgress(code)) return params.said === undefined ? `${params.step}` : `${params.step} ${params.said}`
  const only = ONLY_PARAMETER[code]
  if (only !== undefined) return params[only] === undefined ? null : String(params[only])
  return Object.keys(params).length === 0 ? null : params
}

function toParams(code: EventCode, detail: Detail): Params {
  if (detail === null) return {}
  if (typeof detail === 'object') return detail
  if (isProgress(code)) {
    const blank = detail.indexOf(' ')
    if (blank < 0) return { step: Number(detail) }
    return { step: Number(detail.slice(0, blank)), said: detail.slice(blank + 1) }
  }
  const only = ONLY_PARAMETER[code]
  // Earlier releases wrote other details down as sentences.
  return only === undefined ? { text: detail } : { [only]: detail }
}

const NUMBER = /\d+/

/** The text with another number in place of its first one, wherever that stands; undefined if it has no number. */
function withNumber(text: string, number: string): string | undefined {
  const own = NUMBER.exec(text)?.[0]
  return own === undefined ? undefined : text.replaceAll(own, number)
}

function shorten(detail: Detail, before: Detail | undefined): Detail | number {
  if (typeof detail !== 'string' || typeof before !== 'string') return detail
  const number = NUMBER.exec(detail)?.[0]
  const isLike = number !== undefined && withNumber(before, number) === detail
  return isLike && String(Number(number)) === number ? Number(number) : detail
}

// ---- Reading --------------------------------------------------------------------------------------------

/** How earlier releases spelled the codes, as far as they spelled them otherwise. */
const EARLIER_SPELLINGS: ReadonlyMap<string, EventCode> = new Map([
  ['notice offered', 'notice_offered'],
  ['notice sent', 'notice_sent'],
  ['notice taken', 'notice_taken'],
  ['notice offline', 'notice_offline'],
  ['notice returned', 'notice_returned'],
  ['notice handed out', 'notice_handed_out'],
  ['notice not taken', 'notice_not_taken'],
  ['notice not confirmed', 'notice_not_confirmed'],
  ['cancellation taken', 'cancellation_taken'],
  ['late progress', 'late_progress'],
  ['late version', 'late_version'],
  ['download began', 'download_began'],
  ['download goes on', 'download_resumed'],
  ['download completed', 'download_completed'],
  ['gone after the notice', 'gone'],
  ['timed out', 'timed_out'],
  ['hold', 'waits'],
  ['busy', 'slot_busy'],
  ['slot freed', 'slot_freed'],
  ['alreadyOnTarget', 'already_on_target'],
  ['cancel', 'cancelled'],
  ['retried by itself', 'retried_automatically'],
  ['not retried', 'not_retried'],
])

const toCode = (spelling: string) => EARLIER_SPELLINGS.get(spelling) ?? (spelling as EventCode)

/**
 * An event as it was read. Each message of a device reads and writes its whole history: what an event says is worked
 * out only if somebody asks, and it is written again as it stands.
 */
class StoredEvent implements HistoryEvent {
  readonly stored: Stored
  readonly before: StoredEvent | undefined
  #detail: Detail | undefined

  constructor(stored: Stored, before: StoredEvent | undefined) {
    this.stored = stored
    this.before = before
  }

  get at(): number {
    return (this.before?.at ?? 0) + this.stored[0]
  }

  get storedCode(): string {
    const [, code] = this.stored
    return code === 0 ? (this.before?.storedCode ?? '') : code
  }

  get code(): EventCode {
    return toCode(this.storedCode)
  }

  get params(): Params {
    return toParams(this.code, this.detail)
  }

  get detail(): Detail {
    this.#detail ??= this.#readDetail()
    return this.#detail
  }

  #readDetail(): Detail {
    const [, , detail] = this.stored
    if (typeof detail !== 'number') return detail
    const before = this.before?.detail
    return (typeof before === 'string' && withNumber(before, String(detail))) || null
  }

  get status(): UpgradeStatus | undefined {
    return this.stored[3] || undefined
  }

  get key(): string | undefined {
    return this.stored[4]
  }
}

/** An event with names: how the first releases stored it, and how `offered-rows.ts` does. */
export interface NamedEvent {
  at: number
  kind: string
  detail: Detail
  status?: UpgradeStatus | undefined
  key?: string | undefined
}

export const toNamedEvents = (events: HistoryEvent[]): NamedEvent[] =>
  events.map((event) => ({
    at: event.at,
    kind: event.code,
    detail: detailOf(event),
    ...(event.status !== undefined && { status: event.status }),
    ...(event.key !== undefined && { key: event.key }),
  }))

export const readNamedEvents = (events: NamedEvent[]): HistoryEvent[] => readStored(events)

export const readEvents = (text: string): HistoryEvent[] => readStored(JSON.parse(text))

function readStored(events: (Stored | NamedEvent)[]): HistoryEvent[] {
  let before: StoredEvent | undefined
  return events.map((event) => {
    before = new StoredEvent(Array.isArray(event) ? event : withoutNames(event, before), before)
    return before
  })
}

function withoutNames(
  { at, kind, detail, status, key }: NamedEvent,
  before: StoredEvent | undefined,
): Stored {
  const since = at - (before?.at ?? 0)
  return key === undefined ? [since, kind, detail, status ?? 0] : [since, kind, detail, status ?? 0, key]
}
