import { backoffMs } from './backoff.ts'

/** Devices whose items the Worker wants again later. They wait, each with its own backoff; the others do not. */
export interface Parking {
  park(key: string): void
  free(key: string): void
  /** The keys that must still wait. */
  keys(): string[]
  /** Time until the first of them may be tried again, in ms; Infinity if none waits. */
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
