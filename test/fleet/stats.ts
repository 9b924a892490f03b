/** What a whole fleet did. */
export interface FleetStats {
  connects: number
  /** Connections that the broker refused or that broke. */
  lostConnections: number
  /** Why the last of them did not come about. */
  lastRefusal: string | null
  /** Messages up, and those that the broker acknowledged. */
  published: number
  acknowledged: number
  notices: number
  /** Messages down that PROTOCOL.md, section 3, does not allow. */
  unreadable: number
  downloads: number
  resumes: number
  downloadedBytes: number
  /** Messages in both directions, per second from the first to the last of them. */
  messagesPerSecond: number
}

export interface StatsKeeper {
  counts: Omit<FleetStats, 'messagesPerSecond'>
  /** A message came or was acknowledged. */
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
