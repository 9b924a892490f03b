/** So long without a bridge is an absence that is told; shorter ones are restarts and moments of bad network. */
export const AWAY_AFTER_MS = 5 * 60_000

/** What a hub knows of the presence of its bridge, from the first hello on. */
export interface Watch {
  /** The last sign of a connected bridge, in ms since 1970. */
  seenAt: number
  /** This absence was told: the next one begins with another sign. */
  isTold: boolean
}

/**
 * Looks whether the bridge is away. `lastSign` is the newest one of the sockets that are open now; null where none
 * is. Answers what to keep, and since when the bridge is away where that is to be told now.
 */
export function watchBridge(
  { seenAt, isTold }: Watch,
  lastSign: number | null,
  now: number,
): { watch: Watch; awaySince: number | null } {
  const seen = Math.max(seenAt, lastSign ?? 0)
  if (now - seen < AWAY_AFTER_MS) {
    return { watch: { seenAt: seen, isTold: false }, awaySince: null }
  }
  return { watch: { seenAt: seen, isTold: true }, awaySince: isTold ? null : seen }
}
