/**
 * `upTo` (PROTOCOL.md, section 4, "an outage fails no device"): a time on the Worker's clock before which
 * everything that this bridge was given has been handed over. The bridge's own wall clock is never used: an
 * answer's `now` was read before it arrived, so `now` plus the monotonic time since is never later than the
 * Worker's true time.
 */
export interface WorkerClock {
  /** `now` of an answer that arrived at this monotonic time (both in ms). */
  learn(now: number, arrivedAt: number): void
  /** The Worker's time at a monotonic time, or earlier; undefined before the first answer. */
  at(monotonicMs: number): number | undefined
}

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
 * What the next batch may say, or undefined for nothing. `bound` is the Worker's time at which the broker had
 * handed over everything, taken before the spool was looked at; `oldest` what the spool then holds first (its
 * arrival null where the Worker's time was not known yet). The batch's own items do not count as handed over,
 * since the Worker may answer that it wants them again. Never goes back behind `last`.
 */
export function nextUpTo(
  bound: number | undefined,
  oldest: { at: number | null } | undefined,
  last: number | undefined,
): number | undefined {
  if (bound === undefined || oldest?.at === null) return last
  return Math.max(Math.min(bound, oldest?.at ?? bound), last ?? 0)
}
