import type { UplinkKind } from '../src/protocol/device.ts'
import { type Allowance, createTokenBuckets } from '../src/protocol/token-bucket.ts'
import { type Log, limited } from './log.ts'

/** What one device may take of the bridge, so that it cannot starve the others. No honest device meets these. */
export interface DeviceShares {
  /** Version reports, progress and SUBSCRIBE filters. */
  messages: Allowance
  /** Questions what is due. */
  requests: Allowance
  /** New connections of one username. */
  connects: Allowance
  /** Open connections of one username. */
  connections: number
  /** Of SPOOL_MAX_MB. */
  spoolPercent: number
}

/** A device that reports each percent of eight modules sends some 800 messages, at worst within seconds. */
export const DEVICE_SHARES: DeviceShares = {
  messages: { perMinute: 120, atOnce: 1_000 },
  requests: { perMinute: 30, atOnce: 60 },
  connects: { perMinute: 60, atOnce: 200 },
  connections: 8,
  spoolPercent: 1,
}

/** What a device may have too much of. */
export type Share = 'messages' | 'requests' | 'connections' | 'spool'

export interface Shares {
  /**
   * Waits until this device may say one more thing: its PUBACK or SUBACK waits as long, and nothing more is read from
   * its connection. Undefined: it may now. Rejects if it is gone by then, or if too much of it waits already.
   */
  turn(username: string, kind: UplinkKind | 'subscription', isGone: () => boolean): Promise<void> | undefined
  /** Whether this device may connect once more. The caller has verified its credentials. */
  mayConnect(username: string): boolean
  /** Notes that something of this device was held back or refused. */
  note(username: string, share: Share): void
  /** Called for a device that was over a share, at most once a minute for each device, with how often it was. */
  onOver(listener: (username: string, share: Share, times: number) => void): void
  /** How many devices were over a share within the last minute. */
  overNow(): number
  counts: Record<Share, number>
  /** Tells of all that was not told yet. */
  close(): void
}

interface Waiting {
  share: 'messages' | 'requests'
  isGone: () => boolean
  go(error?: Error): void
}

/** What of one device may wait in memory: some 1.5 MB. Beyond it the connection is closed. */
const MAX_WAITING = 1_000
const TELL_EVERY_MS = 60_000
const LOOK_EVERY_MS = 5_000

/** A device that is over its share, and what was not told of it yet. */
interface Over {
  at: number
  share: Share
  times: number
}

export function createShares(allowed: DeviceShares, log: Log): Shares {
  const now = () => performance.now()
  const buckets = {
    messages: createTokenBuckets(allowed.messages, now),
    requests: createTokenBuckets(allowed.requests, now),
  }
  const connects = createTokenBuckets(allowed.connects, now)
  /** username → what waits, in order, and the timer of the first. */
  const lines = new Map<string, { waiting: Waiting[]; timer: NodeJS.Timeout }>()
  const over = new Map<string, Over>()
  const listeners: ((username: string, share: Share, times: number) => void)[] = []
  const counts = { messages: 0, requests: 0, connections: 0, spool: 0 }
  const logOver = limited((times) =>
    log.warn({ code: 'bridge.over_share', times }, 'devices took more than their share and were held back'),
  )

  function note(username: string, share: Share): void {
    counts[share]++
    logOver()
    const known = over.get(username)
    if (known) known.times++
    else over.set(username, { at: now(), share, times: 1 })
  }

  /** Tells of those that were first over their share before that time, so that one record says how many times it was. */
  function tell(before: number): void {
    for (const [username, { at, share, times }] of over) {
      if (at > before) break
      over.delete(username)
      for (const listener of listeners) listener(username, share, times)
    }
  }
  const telling = setInterval(() => tell(now() - TELL_EVERY_MS), LOOK_EVERY_MS)
  telling.unref()

  function wait(username: string, waiting: Waiting): void {
    const line = lines.get(username)
    if (line) line.waiting.push(waiting)
    else lines.set(username, { waiting: [waiting], timer: nextTurn(username, waiting) })
  }

  const nextTurn = (username: string, { share }: Waiting) =>
    setTimeout(() => serve(username), Math.ceil(buckets[share].waitMs(username)))

  function serve(username: string): void {
    const line = lines.get(username)
    if (!line) return
    const left: Waiting[] = []
    for (const waiting of line.waiting) {
      if (waiting.isGone()) waiting.go(new Error('gone'))
      else if (left.length === 0 && buckets[waiting.share].take(username)) waiting.go()
      else left.push(waiting)
    }
    const [first] = left
    if (first) lines.set(username, { waiting: left, timer: nextTurn(username, first) })
    else lines.delete(username)
  }

  return {
    counts,
    note,
    turn(username, kind, isGone) {
      const share = kind === 'request' ? 'requests' : 'messages'
      const waiting = lines.get(username)?.waiting.length ?? 0
      if (waiting === 0 && buckets[share].take(username)) return undefined
      note(username, share)
      if (waiting >= MAX_WAITING) return Promise.reject(new Error('too much of this device waits'))
      return new Promise((resolve, reject) => {
        wait(username, { share, isGone, go: (error) => (error ? reject(error) : resolve()) })
      })
    },
    mayConnect(username) {
      if (connects.take(username)) return true
      note(username, 'connections')
      return false
    },
    onOver: (listener) => {
      listeners.push(listener)
    },
    overNow: () => over.size,
    close() {
      clearInterval(telling)
      tell(now())
      for (const { waiting, timer } of lines.values()) {
        clearTimeout(timer)
        for (const { go } of waiting) go(new Error('the bridge stops'))
      }
      lines.clear()
    },
  }
}
