const MAX_DELAY_MS = 30_000
/** Base of the first delay; each further one is doubled. */
export const BACKOFF_BASE_MS = 500

/**
 * How long to wait after the `failures`-th failure in a row (from 1), in ms: doubled each time up to 30 s, of
 * which a random half, so that many bridges or sockets do not come back in one moment.
 */
export function backoffMs(
  failures: number,
  baseMs = BACKOFF_BASE_MS,
  random: () => number = Math.random,
): number {
  const full = Math.min(MAX_DELAY_MS, baseMs * 2 ** Math.min(failures - 1, 20))
  return Math.round(full / 2 + (random() * full) / 2)
}
