/** How much may come from one name: `atOnce` after a pause, and `perMinute` in the long run. */
export interface Allowance {
  perMinute: number
  atOnce: number
}

/** One token bucket for each name. Only names that are not full take memory. */
export interface TokenBuckets {
  /** Takes tokens if there are as many. */
  take(name: string, count?: number): boolean
  /**
   * Takes a token, perhaps one that is still to come. Returns the time in ms until it is there: 0 if it is now;
   * undefined if that is longer than `withinMs`, and then it takes none.
   */
  reserve(name: string, withinMs: number): number | undefined
  giveBack(name: string): void
  /** Time in ms until there is a token; 0 if there is one. */
  waitMs(name: string): number
}

interface Bucket {
  /** Less than 0 if tokens were taken that are still to come. */
  tokens: number
  at: number
}

/** Beyond this the names that were used least recently are forgotten, so that names cost a bounded memory. */
const MAX_NAMES = 100_000
/** Full buckets removed at each use: more than one, so that they cannot pile up. */
const REMOVED_AT_ONCE = 2
const MINUTE_MS = 60_000

/** `now` returns milliseconds of any clock that does not go back. */
export function createTokenBuckets({ perMinute, atOnce }: Allowance, now: () => number): TokenBuckets {
  const perMs = perMinute / MINUTE_MS
  /** In the order of their last use. */
  const buckets = new Map<string, Bucket>()

  const tokensOf = ({ tokens, at }: Bucket, time: number) =>
    Math.min(atOnce, tokens + Math.max(0, time - at) * perMs)

  function current(name: string, time: number): number {
    const bucket = buckets.get(name)
    return bucket ? tokensOf(bucket, time) : atOnce
  }

  function put(name: string, tokens: number, at: number): void {
    buckets.delete(name) // moves it to the end of the map
    if (tokens < atOnce) buckets.set(name, { tokens, at })
    let looked = 0
    for (const [oldest, bucket] of buckets) {
      const isNeedless = tokensOf(bucket, at) >= atOnce || buckets.size > MAX_NAMES
      if (!isNeedless || looked++ >= REMOVED_AT_ONCE) break
      buckets.delete(oldest)
    }
  }

  const waitFor = (tokens: number) => (tokens >= 1 ? 0 : (1 - tokens) / perMs)

  return {
    take(name, count = 1) {
      const time = now()
      const tokens = current(name, time)
      if (tokens < count) return false
      put(name, tokens - count, time)
      return true
    },
    reserve(name, withinMs) {
      const time = now()
      const tokens = current(name, time)
      const wait = waitFor(tokens)
      if (wait > withinMs) return undefined
      put(name, tokens - 1, time)
      return wait
    },
    giveBack(name) {
      const time = now()
      put(name, Math.min(atOnce, current(name, time) + 1), time)
    },
    waitMs: (name) => waitFor(current(name, now())),
  }
}
