import { backoffMs } from './backoff.ts'

/** Devices whose items the Worker asked to have again later: the others do not wait for them. */
export interface Parking {
  park(key: string): void
  free(key: string): void
  /** Who is still to wait. */
  keys(): string[]
  /** Until the first of them may be tried again, in ms; infinite where nobody waits. */
  nextMs(): number
}

export function createParking(backoffBaseMs: number, now: () => number = () => performance.now()): Parking {
  const parked = new Map<string, { failures: number; until: number }>()
  const waiting = () => [...parked].filter(([, { until }]) => until > now())
  return {
    park(key) {
      const failures = (parked.get(key)?.failures ?? 0) + 1
      parked.set(key, { failures, until: now() + backoffMs(failures, backoffBaseMs) })
    },
    free: (key) => {
      parked.delete(key)
    },
    keys: () => waiting().map(([key]) => key),
    nextMs: () => Math.min(...waiting().map(([, { until }]) => Math.max(1, until - now()))),
  }
}
