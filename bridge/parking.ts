import { backoffMs } from './backoff.ts'

/** Devices whose items the Worker wants again later. They wait, each with its own backoff; the others do not. */
export interface Parking {
  /** `isOverShare`: the Worker wants them later since the device sends too much. */
  park(key: string, isOverShare?: boolean): void
  free(key: string): void
  /** The keys that must still wait. */
  keys(): string[]
  /** The keys that are parked for more than their share, until they are free. */
  overShare(): string[]
  /** Time until the first of them may be tried again, in ms; Infinity if none waits. */
  nextMs(): number
}

export function createParking(backoffBaseMs: number, now: () => number = () => performance.now()): Parking {
  const parked = new Map<string, { failures: number; until: number; isOverShare: boolean }>()
  const waiting = () => [...parked].filter(([, { until }]) => until > now())
  return {
    park(key, isOverShare = false) {
      const failures = (parked.get(key)?.failures ?? 0) + 1
      parked.set(key, { failures, until: now() + backoffMs(failures, backoffBaseMs), isOverShare })
    },
    free: (key) => {
      parked.delete(key)
    },
    keys: () => waiting().map(([key]) => key),
    overShare: () => [...parked].flatMap(([key, { isOverShare }]) => (isOverShare ? [key] : [])),
    nextMs: () => Math.min(...waiting().map(([, { until }]) => Math.max(1, until - now()))),
  }
}
