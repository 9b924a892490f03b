import type { Counters } from './meter.ts'
import { OBJECT_GB, PRICES } from './prices.ts'

/** US dollars by part of the bill. */
export type Bill = Record<string, number>

/** The bill for counted work. `downloads`: files that devices fetched, each one R2 read that the Worker does not see. */
export const billOf = (counters: Counters, downloads: number): Bill => ({
  'rows written in objects': counters.objectRowsWritten * PRICES.objectRowWritten,
  'rows written in D1': counters.d1RowsWritten * PRICES.d1RowWritten,
  'rows read': counters.objectRowsRead * PRICES.objectRowRead + counters.d1RowsRead * PRICES.d1RowRead,
  'Worker requests': counters.workerRequests * PRICES.workerRequest,
  'object requests':
    counters.objectRequests * PRICES.objectRequest + counters.webSocketMessages * PRICES.webSocketMessage,
  'object time': (counters.objectMs / 1000) * OBJECT_GB * PRICES.objectGbSecond,
  'R2 operations': counters.r2ClassA * PRICES.r2ClassA + (counters.r2ClassB + downloads) * PRICES.r2ClassB,
})

export const totalOf = (bill: Bill) => Object.values(bill).reduce((sum, part) => sum + part, 0)

/** The bill for a million devices, from the bill for `devices`. */
export const perMillion = (bill: Bill, devices: number): Bill =>
  Object.fromEntries(
    Object.entries(bill).map(([part, cost]) => [
      part,
      Math.round((cost / devices) * 1_000_000 * 1000) / 1000,
    ]),
  )

/** What was counted between two readings. */
export function difference(later: Counters, earlier: Counters): Counters {
  const result: Counters = structuredClone(later)
  for (const key of Object.keys(result) as (keyof Counters)[]) {
    if (key !== 'written') result[key] = later[key] - earlier[key]
  }
  for (const name of Object.keys(result.written)) {
    result.written[name] = (later.written[name] ?? 0) - (earlier.written[name] ?? 0)
  }
  return result
}
