const MAX_DELAY_MS = 30_000
/** The delay after the first failure, before half of it is randomised. */
export const BACKOFF_BASE_MS = 500

/**
 * Returns how long to wait, in ms, after the `failures`-th failure in a row (counted from 1): doubled each time up to
 * 30 s. Half of the delay is random, so that many bridges or sockets do not come back at the same moment.
 */
export function backoffMs(
  failures: number,
  baseMs = BACKOFF_BASE_MS,
  random: () => number = Math.random,
): number {
  const full = Math.min(MAX_DELAY_MS, baseMs * 2 ** Math.min(failures - 1, 20))
  return Math.round(full / 2 + (random() * full) / 2)
}
