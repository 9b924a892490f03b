/** An absence of this length is reported; shorter ones are restarts and moments of bad network. */
export const AWAY_AFTER_MS = 5 * 60_000

/** What a hub knows about the presence of its bridge, from the first hello on. */
export interface Watch {
  /** The last sign of a connected bridge, in ms since 1970. */
  seenAt: number
  /** This absence was reported: the next one begins after another sign. */
  isTold: boolean
}

/**
 * Checks whether the bridge is away. `lastSign` is the newest sign of a socket that is open now, null if none is.
 * Returns what to keep and, if an absence is to be reported now, since when the bridge is away. All times in ms.
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
