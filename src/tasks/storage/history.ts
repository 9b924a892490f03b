import type { UpgradeStatus } from '../rules/upgrade.ts'

/** What happened, when, why, and the fingerprint of the message that caused it. */
export interface HistoryEvent {
  at: number
  kind: string
  detail: string | null
  /** The state that it led to, where it changed. */
  status?: UpgradeStatus | undefined
  /** Tells a repeated message from a new one. */
  key?: string | undefined
}

/**
 * An event as it is stored: a fifth of its size with names, so that the row of a usual upgrade keeps to its page of
 * SQLite's tree. What is like the event before says only what differs: its time in ms since then (that of the first
 * since 1970), 0 for the same kind, and a number for the same detail with that number in it.
 */
type Stored = [
  since: number,
  kind: string | 0,
  detail: string | number | null,
  status?: UpgradeStatus | 0,
  key?: string,
]

const MAX_EVENTS = 50
const MAX_BYTES = 8 * 1024
const MAX_BYTES_OF_UNIT = 3

/** The last 50 events, and of them as many of the last as 8 KB hold. */
export function writeEvents(events: HistoryEvent[]): string {
  for (let first = Math.max(0, events.length - MAX_EVENTS); ; first++) {
    const text = toText(events.slice(first))
    if (fits(text) || first >= events.length - 1) return text
  }
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

function toStored({ at, kind, detail, status, key }: HistoryEvent, before: HistoryEvent | undefined): Stored {
  const since = at - (before?.at ?? 0)
  const stored = [since, kind === before?.kind ? 0 : kind, shorten(detail, before?.detail)] as const
  if (key !== undefined) return [...stored, status ?? 0, key]
  return status === undefined ? [...stored] : [...stored, status]
}

const NUMBER = /\d+/

/** The text with another number in place of its first one, wherever that stands; undefined where it has none. */
function withNumber(text: string, number: string): string | undefined {
  const own = NUMBER.exec(text)?.[0]
  return own === undefined ? undefined : text.replaceAll(own, number)
}

function shorten(detail: string | null, before: string | null | undefined): string | number | null {
  const number = detail === null ? undefined : NUMBER.exec(detail)?.[0]
  const isLike = number !== undefined && before != null && withNumber(before, number) === detail
  return isLike && String(Number(number)) === number ? Number(number) : detail
}

/**
 * An event as it was read. Each message of a device reads and writes its whole history: what an event says is worked
 * out only where somebody asks, and it is written again as it stands.
 */
class StoredEvent implements HistoryEvent {
  readonly stored: Stored
  readonly before: HistoryEvent | undefined
  #detail: string | null | undefined

  constructor(stored: Stored, before: HistoryEvent | undefined) {
    this.stored = stored
    this.before = before
  }

  get at(): number {
    return (this.before?.at ?? 0) + this.stored[0]
  }

  get kind(): string {
    const [, kind] = this.stored
    return kind === 0 ? (this.before?.kind ?? '') : kind
  }

  get detail(): string | null {
    this.#detail ??= this.#readDetail()
    return this.#detail
  }

  #readDetail(): string | null {
    const [, , detail] = this.stored
    if (typeof detail !== 'number') return detail
    return withNumber(this.before?.detail ?? '', String(detail)) ?? null
  }

  get status(): UpgradeStatus | undefined {
    return this.stored[3] || undefined
  }

  get key(): string | undefined {
    return this.stored[4]
  }
}

export function readEvents(text: string): HistoryEvent[] {
  let before: HistoryEvent | undefined
  return (JSON.parse(text) as (Stored | HistoryEvent)[]).map((stored) => {
    // Rows of earlier versions have the names.
    before = Array.isArray(stored) ? new StoredEvent(stored, before) : stored
    return before
  })
}
