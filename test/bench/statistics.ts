/** The value below which `share` (0–1) of the values lie. */
export function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export const median = (values: number[]) => percentile(values, 0.5)

/** The median with the least and the most, as in the tables. */
export const spread = (values: number[]) =>
  `${median(values)} (${Math.min(...values)}–${Math.max(...values)})`

/** Milliseconds, to one decimal. */
export const percentiles = (values: number[]) => ({
  p50: round(percentile(values, 0.5)),
  p95: round(percentile(values, 0.95)),
  p99: round(percentile(values, 0.99)),
})

const round = (ms: number) => Math.round(ms * 10) / 10
