const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS

/** The waits between the tries of one delivery, as the Standard Webhooks specification suggests. */
const WAITS_MS = [
  5 * SECOND_MS,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  2 * HOUR_MS,
  5 * HOUR_MS,
  10 * HOUR_MS,
  14 * HOUR_MS,
  20 * HOUR_MS,
  24 * HOUR_MS,
]
/** Up to this share of a wait is added, so that deliveries that failed together are not all tried again at once. */
const JITTER = 0.2
/** The longest wait that a receiver can ask for. */
const MAX_RETRY_AFTER_MS = HOUR_MS
const FIRST_HOLD_MS = SECOND_MS
const MAX_HOLD_MS = MINUTE_MS

/**
 * How long a delivery waits after so many failed tries (1 for the first), in ms; null after the last one.
 * `random` is in [0, 1).
 */
export function waitAfter(attempts: number, retryAfterMs: number | null, random: number): number | null {
  const wait = WAITS_MS[attempts - 1]
  if (wait === undefined) return null
  return Math.max(Math.round(wait * (1 + JITTER * random)), retryAfterMs ?? 0)
}

/** How long a webhook sends nothing, in ms, after so many pages in a row (1 for the first) without one delivery. */
export const holdAfter = (failedPages: number) =>
  Math.min(FIRST_HOLD_MS * 2 ** (failedPages - 1), MAX_HOLD_MS)

/** `Retry-After` as seconds or as a date → ms from now, at most an hour; null if it cannot be read. */
export function readRetryAfter(header: string | null, now: number): number | null {
  if (header === null) return null
  const text = header.trim()
  const ms = /^\d+$/.test(text) ? Number(text) * SECOND_MS : Date.parse(text) - now
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}
