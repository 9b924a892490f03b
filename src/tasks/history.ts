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
 * An event as it is stored: a third of its size with names, so that the row of a usual upgrade keeps to its page of
 * SQLite's tree. The first event's time is in ms since 1970, that of each other one in ms since the one before.
 */
type Stored = [since: number, kind: string, detail: string | null, status?: UpgradeStatus | 0, key?: string]

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
  let before = 0
  return JSON.stringify(
    events.map(({ at, kind, detail, status, key }): Stored => {
      const since = at - before
      before = at
      if (key !== undefined) return [since, kind, detail, status ?? 0, key]
      return status === undefined ? [since, kind, detail] : [since, kind, detail, status]
    }),
  )
}

export function readEvents(text: string): HistoryEvent[] {
  let at = 0
  return (JSON.parse(text) as (Stored | HistoryEvent)[]).map((stored) => {
    // Rows of earlier versions have the names.
    if (!Array.isArray(stored)) {
      at = stored.at
      return stored
    }
    const [since, kind, detail, status, key] = stored
    at += since
    return { at, kind, detail, ...(status && { status }), ...(key !== undefined && { key }) }
  })
}
