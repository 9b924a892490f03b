/**
 * Reckons the Worker's time from its responses, for `upTo` (src/protocol/README.md#order-and-outages). The bridge's own
 * wall clock is never used. A response's `now` was read before the response arrived, so `now` plus the monotonic time
 * since then is never later than the Worker's true time.
 */
export interface WorkerClock {
  /** `now` is that of a response which arrived at the monotonic time `arrivedAt` (both in ms). */
  learn(now: number, arrivedAt: number): void
  /** The Worker's time (ms) at a monotonic time, never too late; undefined before the first response. */
  at(monotonicMs: number): number | undefined
}

/** The slower an answer was, the earlier the Worker's time seems. A request is given up after half of this time. */
const CLOCK_SLACK_MS = 60_000

export function createWorkerClock(): WorkerClock {
  let offset: number | undefined
  return {
    learn: (now, arrivedAt) => {
      offset = now - arrivedAt
    },
    at: (monotonicMs) => (offset === undefined ? undefined : Math.max(0, Math.floor(offset + monotonicMs))),
  }
}

/**
 * Returns the `upTo` of the next batch: everything that the bridge was given before then has been handed over.
 * Undefined: the batch says none.
 * - `bound`: the Worker's time at which the broker had handed over everything, read before the spool was.
 * - `oldest`: the first item in the spool; its `at` is null if the Worker's time was unknown then. The items of the
 *   batch itself do not count as handed over, since the Worker may want them again.
 * - `last`: the `upTo` of the last batch; the result is never earlier, unless `last` came of a wrong answer of the Worker
 *   and lies in its future.
 */
export function nextUpTo(
  bound: number | undefined,
  oldest: { at: number | null } | undefined,
  last: number | undefined,
): number | undefined {
  if (bound !== undefined && last !== undefined && last > bound + CLOCK_SLACK_MS) {
    return nextUpTo(bound, oldest, undefined)
  }
  if (bound === undefined || oldest?.at === null) return last
  return Math.max(Math.min(bound, oldest?.at ?? bound), last ?? 0)
}
