import type { UpgradeStatus } from './upgrade.ts'

/** What happened, when, why, and the fingerprint of the message that caused it. */
export interface HistoryEvent {
  at: number
  kind: string
  detail: string | null
  /** The state that it led to, where it changed. */
  status?: UpgradeStatus
  /** Tells a repeated message from a new one. */
  key?: string
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
    events.map(({ at, kind, detail, status, key }, index): Stored => {
      const before = events[index - 1]
      const since = at - (before?.at ?? 0)
      const stored = [since, kind === before?.kind ? 0 : kind, shorten(detail, before?.detail)] as const
      if (key !== undefined) return [...stored, status ?? 0, key]
      return status === undefined ? [...stored] : [...stored, status]
    }),
  )
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

export function readEvents(text: string): HistoryEvent[] {
  let before: HistoryEvent | undefined
  return (JSON.parse(text) as (Stored | HistoryEvent)[]).map((stored) => {
    // Rows of earlier versions have the names.
    before = Array.isArray(stored) ? restore(stored, before) : stored
    return before
  })
}

const restore = (
  [since, kind, detail, status, key]: Stored,
  before: HistoryEvent | undefined,
): HistoryEvent => ({
  at: (before?.at ?? 0) + since,
  kind: kind === 0 ? (before?.kind ?? '') : kind,
  detail: typeof detail === 'number' ? (withNumber(before?.detail ?? '', String(detail)) ?? null) : detail,
  ...(status && { status }),
  ...(key !== undefined && { key }),
})
