/** Figures over a whole fleet. */
export interface FleetStats {
  connects: number
  /** Connections that the broker refused or that broke. */
  lostConnections: number
  /** Why the latest attempt to connect failed. */
  lastRefusal: string | null
  /** Messages that devices published, and how many of them the broker acknowledged. */
  published: number
  acknowledged: number
  notices: number
  /** Messages to devices that the protocol does not allow (src/protocol/README.md#messages). */
  unreadable: number
  downloads: number
  resumes: number
  downloadedBytes: number
  /** Messages in both directions per second, measured from the first to the last of them. */
  messagesPerSecond: number
}

export interface StatsKeeper {
  counts: Omit<FleetStats, 'messagesPerSecond'>
  /** Records the time of a message that came or was acknowledged. */
  tick(): void
  read(): FleetStats
}

export function createStats(now: () => number = () => performance.now()): StatsKeeper {
  const counts = {
    connects: 0,
    lostConnections: 0,
    lastRefusal: null as string | null,
    published: 0,
    acknowledged: 0,
    notices: 0,
    unreadable: 0,
    downloads: 0,
    resumes: 0,
    downloadedBytes: 0,
  }
  let first: number | undefined
  let last = 0
  return {
    counts,
    tick() {
      last = now()
      first ??= last
    },
    read() {
      const seconds = first === undefined ? 0 : (last - first) / 1000
      const messages = counts.acknowledged + counts.notices
      return { ...counts, messagesPerSecond: seconds > 0 ? messages / seconds : 0 }
    },
  }
}
