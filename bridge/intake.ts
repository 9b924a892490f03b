import { type Log, limited } from './log.ts'
import type { Spool, SpoolEntry, SpoolItem } from './spool.ts'

/** The way into the spool. Everything that comes in one turn of the event loop is written in one transaction. */
export interface Intake {
  /**
   * Takes in a device's message. Resolves when it is durable; while the spool is full, or has this device's whole share,
   * that may take long. Rejects if it cannot be written or `isGone()` is true: then the message must not be
   * acknowledged.
   */
  message(key: string, item: SpoolItem, isGone: () => boolean): Promise<void>
  /** Device messages that became durable since the start. */
  counts: { messages: number }
  /** True if the last write failed, most likely because the disk is full. */
  hasFailed(): boolean
  /** True once the spool reached SPOOL_MAX_MB, until a tenth of that is free again. */
  isFull(): boolean
  /** True once the spool has this device's whole share. */
  hasShare(key: string): boolean
  /** Resolves when the spool is not full; rejects if `isGone()` becomes true before. */
  waitForRoom(isGone: () => boolean): Promise<void>
  /** Writes records, even if the spool is full. Resolves when they are durable; rejects if they cannot be written. */
  record(key: string, items: readonly SpoolItem[]): Promise<void>
  /** Takes in a fact that no sender would repeat: it stays in memory until it is written. */
  keep(key: string, item: SpoolItem): void
  /** Writes what is waiting now, without a further turn of the event loop. */
  flush(): void
  /** The uplink calls this when it has deleted items. */
  drained(): void
  /** Called after each write. */
  onWritten(listener: () => void): void
  close(): void
}

interface Pending {
  entries: SpoolEntry[]
  done(error?: Error): void
  kept: boolean
}
interface Waiting {
  isGone(): boolean
  go(error?: Error): void
}

const RETRY_MS = 1_000
/** How many kept facts may wait in memory for a disk that cannot be written. */
const MAX_KEPT = 50_000
const LOOK_FOR_GONE_MS = 5_000
/** A full spool takes messages in again below this part of its limit. */
const EMPTY_ENOUGH = 0.9
/** How many waiting messages enter for each batch that left: a batch has as many items, so the spool does not grow. */
const RELEASED_AT_ONCE = 1_000
/** The same of one device that has room in its share again: few, since each may be large. */
const RELEASED_OF_DEVICE = 10

export function createIntake(
  spool: Spool,
  options: {
    maxBytes: number
    /** What the spool holds of one device. */
    maxBytesOfDevice: number
    workerTime: () => number | undefined
    /** Called for each message that waits since the spool has its device's whole share. */
    onShare: (key: string) => void
    log: Log
  },
): Intake {
  let pending: Pending[] = []
  let pendingBytes = 0
  let held: Waiting[] = []
  /** key → messages that wait for room in their device's share. */
  const heldOf = new Map<string, Waiting[]>()
  let scheduled: NodeJS.Immediate | undefined
  let retry: NodeJS.Timeout | undefined
  const listeners: (() => void)[] = []
  const logFailure = limited((times) =>
    options.log.error({ code: 'bridge.spool_not_written', times }, 'the spool cannot be written'),
  )
  const logFull = limited((times) =>
    options.log.warn({ code: 'bridge.spool_full', times }, 'the spool is full: devices wait'),
  )

  const counts = { messages: 0 }
  let failed = false
  let wasFull = false
  function full(): boolean {
    const bytes = spool.bytes() + pendingBytes
    wasFull = bytes >= options.maxBytes || (wasFull && bytes >= options.maxBytes * EMPTY_ENOUGH)
    return wasFull
  }

  function flush(): void {
    clearImmediate(scheduled)
    scheduled = undefined
    if (pending.length === 0) return
    const group = pending
    pending = []
    pendingBytes = 0
    try {
      spool.append(group.flatMap((part) => part.entries))
      failed = false
    } catch {
      failed = true
      logFailure()
      // Kept facts are tried again first. All others are refused, and their senders send them again.
      pending = boundKept(group.filter((part) => part.kept))
      for (const part of group) if (!part.kept) part.done(new Error('the spool cannot be written'))
      if (pending.length > 0) retry ??= setTimeout(retryNow, RETRY_MS)
      return
    }
    for (const part of group) part.done()
    for (const listener of listeners) listener()
  }

  /** Bounds the memory while the disk stays full: the oldest facts are forgotten. */
  function boundKept(kept: Pending[]): Pending[] {
    const tooMany = kept.length - MAX_KEPT
    if (tooMany <= 0) return kept
    options.log.error(
      { code: 'bridge.facts_dropped', dropped: tooMany },
      'facts that could not be spooled were dropped',
    )
    return kept.slice(tooMany)
  }

  function retryNow(): void {
    retry = undefined
    flush()
  }

  function add(key: string, items: readonly SpoolItem[], kept: boolean, done: (error?: Error) => void): void {
    const at = options.workerTime() ?? null
    const entries = items.map((item) => ({ key, at, body: JSON.stringify(item) }))
    for (const { body } of entries) pendingBytes += body.length
    pending.push({ entries, kept, done })
    scheduled ??= setImmediate(flush)
  }

  const written = (key: string, items: readonly SpoolItem[]) =>
    new Promise<void>((resolve, reject) => {
      add(key, items, false, (error) => (error ? reject(error) : resolve()))
    })

  /** What is not written yet does not count: it is what one turn of the event loop brought. */
  const hasShare = (key: string) => spool.bytesOf(key) >= options.maxBytesOfDevice

  function waitForShare(key: string, isGone: () => boolean): Promise<void> {
    options.onShare(key)
    if (isGone()) return Promise.reject(new Error('the spool has the whole share of this device'))
    return new Promise((resolve, reject) => {
      const waiting = heldOf.get(key) ?? []
      heldOf.set(key, waiting)
      waiting.push({ isGone, go: (error) => (error ? reject(error) : resolve()) })
    })
  }

  function releaseShares(): void {
    for (const [key, waiting] of heldOf) {
      if (!hasShare(key)) for (const { go } of waiting.splice(0, RELEASED_OF_DEVICE)) go()
      if (waiting.length === 0) heldOf.delete(key)
    }
  }

  function waitForRoom(isGone: () => boolean): Promise<void> {
    if (!full() && held.length === 0) return Promise.resolve()
    if (isGone()) return Promise.reject(new Error('the spool is full'))
    logFull()
    return new Promise((resolve, reject) => {
      held.push({ isGone, go: (error) => (error ? reject(error) : resolve()) })
    })
  }

  /** Without this, the waiting messages of devices that left would pile up in memory. */
  const sweep = setInterval(() => {
    held = stillThere(held)
    for (const [key, waiting] of heldOf) {
      const left = stillThere(waiting)
      if (left.length > 0) heldOf.set(key, left)
      else heldOf.delete(key)
    }
  }, LOOK_FOR_GONE_MS)
  sweep.unref()

  return {
    // If the spool is not full, the item is in line before this returns, so a client's messages keep their order.
    async message(key, item, isGone) {
      const write = () => written(key, [item])
      if (hasShare(key) || heldOf.has(key)) {
        await waitForShare(key, isGone)
          .then(() => waitForRoom(isGone))
          .then(write)
      } else await (!full() && held.length === 0 ? write() : waitForRoom(isGone).then(write))
      counts.messages++
    },
    counts,
    hasFailed: () => failed,
    isFull: full,
    hasShare,
    waitForRoom,
    record: written,
    keep: (key, item) => add(key, [item], true, () => {}),
    flush,
    drained() {
      if (full()) return
      releaseShares()
      for (const waiting of held.splice(0, RELEASED_AT_ONCE)) waiting.go()
    },
    onWritten: (listener) => {
      listeners.push(listener)
    },
    close() {
      clearInterval(sweep)
      clearTimeout(retry)
      flush()
      clearTimeout(retry)
      for (const waiting of [...held, ...[...heldOf.values()].flat()])
        waiting.go(new Error('the bridge stops'))
      held = []
      heldOf.clear()
    },
  }
}

/** Ends the waiting of those that are gone; returns the others. */
function stillThere(everyone: readonly Waiting[]): Waiting[] {
  return everyone.filter((waiting) => {
    if (!waiting.isGone()) return true
    waiting.go(new Error('gone'))
    return false
  })
}
