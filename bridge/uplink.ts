import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  type BatchAnswer,
  MAX_BATCH_BYTES,
  MAX_BATCH_ITEMS,
  MAX_BATCH_ITEMS_OF_DEVICE,
  OVER_SHARE,
} from '../src/protocol/bridge.ts'
import { backoffMs } from './backoff.ts'
import type { Intake } from './intake.ts'
import { errorFields, type Log, limited } from './log.ts'
import { createParking } from './parking.ts'
import type { Spool, SpooledItem } from './spool.ts'
import { nextUpTo, type WorkerClock } from './up-to.ts'
import type { WorkerClient } from './worker-client.ts'

export interface Uplink {
  /** Ends within `withinMs`; posts one last batch if the Worker took the one before. */
  stop(withinMs: number): Promise<void>
  counts: {
    batches: number
    taken: number
    rejected: number
    retried: number
    overShare: number
    dead: number
  }
  /** Whether the Worker takes batches; `unknown` before the first response. */
  worker(): WorkerHealth
  /** True if the last step threw: most likely the disk failed, and items could not be deleted from the spool. */
  hasFailed(): boolean
}

export interface WorkerHealth {
  state: 'ok' | 'away' | 'unknown'
  /** The last failure: an HTTP status or the name of an error. */
  reason?: string | undefined
  /** ISO 8601; null before the first response. */
  lastAnswerAt: string | null
}

/** A short wait after each batch, so that the messages of a burst go up together. */
const LINGER_MS = 10
/** Bytes of a batch that are reserved for what is not its items. */
const ENVELOPE_BYTES = 4096
const SPOOL_RETRY_MS = 5_000
/** A `sent` record waits this long for its `taken`: if one batch has both, the task writes the device's row once. */
const SENT_WAITS_MS = 500

export interface UplinkOptions {
  bridge: string
  spool: Spool
  intake: Intake
  worker: WorkerClient
  clock: WorkerClock
  /** A bridge that stands by posts what it still holds, but without `upTo`. */
  isActive: () => boolean
  /** Monotonic time (ms) up to which the broker has handed over everything; undefined: not known. */
  receivedUpTo: () => number | undefined
  upToIntervalMs: number
  backoffBaseMs: number
  log: Log
}

/**
 * Posts the spool to the Worker: in order, one batch at a time, each item until it is taken or rejected
 * (src/http/README.md#bridge-and-broker).
 */
export function startUplink(options: UplinkOptions): Uplink {
  const { spool, intake, worker, clock, log } = options
  const counts = { batches: 0, taken: 0, rejected: 0, retried: 0, overShare: 0, dead: 0 }
  const parking = createParking(options.backoffBaseMs)
  const aborter = new AbortController()
  const logFailure = limited(() =>
    log.warn({ code: 'bridge.worker_away', error: lastFailure, failures }, 'the Worker takes no messages'),
  )
  const logRejected = limited((times) =>
    log.info({ code: 'bridge.message_rejected', times }, 'messages were rejected by the Worker'),
  )

  let stopping = false
  let wake: (() => void) | undefined
  let failures = 0
  let lastFailure = ''
  let batchLimit = MAX_BATCH_ITEMS
  /** The `seq` of an item that was refused by itself, although an empty batch was taken. */
  let suspectSeq: number | undefined
  let lastUpTo: number | undefined
  let lastPostAt = Number.NEGATIVE_INFINITY
  /** True once a response of this run told the newest lease. No item is posted before: its lease may be outdated. */
  let knowsLease = false
  let failed = false

  intake.onWritten(() => wake?.())

  /** Ends early if the bridge stops or, with `forWork`, if something was written. */
  function sleep(ms: number, forWork: boolean): Promise<void> {
    if (stopping) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        wake = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      wake = () => {
        if (forWork || stopping) done()
      }
    })
  }

  /** Returns what can be posted now, with its `upTo`, and how long the first parked device must still wait. */
  async function gather(): Promise<{ items: SpooledItem[]; upTo: number | undefined; parkedMs: number }> {
    const receivedUpTo = options.receivedUpTo()
    const bound = receivedUpTo === undefined ? undefined : clock.at(receivedUpTo)
    // After one turn of the event loop, everything that the sockets held at `bound` has reached the intake.
    await nextTurn()
    intake.flush()
    const parkedMs = parking.nextMs()
    const limit = knowsLease ? batchLimit : 0
    const items = spool.peek(
      limit,
      MAX_BATCH_BYTES - ENVELOPE_BYTES,
      parking.keys(),
      MAX_BATCH_ITEMS_OF_DEVICE,
    )
    // A device that sends more than its share must not hold back what is known of all others.
    return { items, upTo: nextUpTo(bound, spool.oldest(parking.overShare()), lastUpTo), parkedMs }
  }

  function envelope(items: readonly SpooledItem[], upTo: number | undefined): string {
    const { known } = spool.lease()
    const head = JSON.stringify({
      bridge: options.bridge,
      ...(known !== null && { lease: known }),
      ...(upTo !== undefined && options.isActive() && { upTo }),
    })
    return `${head.slice(0, -1)},"items":[${items.map((item) => item.json).join(',')}]}`
  }

  function settle(items: readonly SpooledItem[], answer: BatchAnswer): void {
    const results = new Map(answer.results.map((result) => [result.id, result]))
    const gone: SpooledItem[] = []
    /** The keys that stay, and whether for nothing but their share. */
    const stay = new Map<string, boolean>()
    for (const item of items) {
      const { status, code } = results.get(item.id) ?? { status: 'retry' }
      const isOverShare = status === 'retry' && code === OVER_SHARE
      if (status === 'retry') stay.set(item.key, isOverShare && (stay.get(item.key) ?? true))
      else gone.push(item)
      counts[isOverShare ? 'overShare' : status === 'retry' ? 'retried' : status]++
      if (status === 'rejected') logRejected()
    }
    for (const key of new Set(items.map((item) => item.key))) {
      if (stay.has(key)) parking.park(key, stay.get(key))
      else parking.free(key)
    }
    spool.drop(gone)
    if (gone.length > 0) intake.drained()
  }

  /**
   * Halves a batch that the Worker cannot read, until one item is left, which becomes a dead letter. Returns false if
   * even an empty batch is refused.
   */
  async function isolateUnreadable(items: readonly SpooledItem[], status: number): Promise<boolean> {
    const [item] = items
    if (items.length > 1) {
      batchLimit = Math.ceil(items.length / 2)
      return true
    }
    if (item === undefined) return false
    if (suspectSeq !== item.seq) {
      // If an empty batch is refused too, the item is not to blame. If not, the item is tried once more by itself.
      const probe = await worker.postBatch(envelope([], lastUpTo), aborter.signal)
      suspectSeq = probe.kind === 'answered' ? item.seq : undefined
      return suspectSeq !== undefined
    }
    spool.moveToDeadLetters(item, `status ${status}`)
    counts.dead++
    log.error(
      { code: 'bridge.dead_letter', id: item.id, status },
      'the Worker cannot read an item: it is a dead letter',
    )
    return true
  }

  function learnLease(number = 0): void {
    const { own, known } = spool.lease()
    if (number > (known ?? 0)) spool.setLease({ own, known: number })
    knowsLease = true
  }

  async function post(items: SpooledItem[], upTo: number | undefined): Promise<void> {
    const outcome = await worker.postBatch(envelope(items, upTo), aborter.signal)
    if (outcome.kind === 'answered') {
      clock.learn(outcome.answer.now, outcome.arrivedAt)
      learnLease(outcome.answer.lease)
      lastUpTo = upTo
      lastPostAt = performance.now()
      failures = 0
      batchLimit = Math.min(MAX_BATCH_ITEMS, batchLimit * 2)
      suspectSeq = undefined
      counts.batches++
      settle(items, outcome.answer)
      return
    }
    if (outcome.kind === 'refused' && (await isolateUnreadable(items, outcome.status))) return
    failures++
    lastFailure = outcome.kind === 'failed' ? outcome.reason : `status ${outcome.status}`
    if (!stopping) logFailure()
    const delay = backoffMs(failures, options.backoffBaseMs)
    await sleep(Math.max(delay, outcome.kind === 'failed' ? outcome.retryAfterMs : 0), false)
  }

  let onlySentSince = Number.POSITIVE_INFINITY

  /** How long to wait because all items are `sent` records; 0 if there are others or these have waited long enough. */
  function waitsMs(items: readonly SpooledItem[]): number {
    const isOnlySent = items.length > 0 && items.every(isSent)
    if (!isOnlySent) onlySentSince = Number.POSITIVE_INFINITY
    else onlySentSince = Math.min(onlySentSince, performance.now())
    return isOnlySent && !stopping ? Math.max(0, onlySentSince + SENT_WAITS_MS - performance.now()) : 0
  }

  async function step(): Promise<void> {
    const { items, upTo, parkedMs } = await gather()
    const waits = waitsMs(items)
    if (waits > 0) return sleep(waits, true)
    const isIdle = knowsLease && !options.isActive() && spool.depth() === 0
    const idleForMs = (isIdle ? performance.now() : lastPostAt) + options.upToIntervalMs - performance.now()
    if (items.length > 0 || idleForMs <= 0) await post(items, upTo)
    else await sleep(Math.min(idleForMs, parkedMs), true)
    if (spool.depth() < MAX_BATCH_ITEMS) await sleep(LINGER_MS, false)
  }

  async function run(): Promise<void> {
    while (!stopping) {
      try {
        await step()
        failed = false
      } catch (error) {
        failed = true
        // Most likely the spool's disk. Items that could not be deleted go up twice, which changes nothing.
        log.error({ code: 'bridge.uplink_failed', ...errorFields(error) }, 'the uplink failed')
        await sleep(SPOOL_RETRY_MS, false)
      }
    }
  }

  const running = run()

  return {
    counts,
    worker: () => {
      const hasAnswered = Number.isFinite(lastPostAt)
      return {
        state: failures > 0 ? 'away' : hasAnswered ? 'ok' : 'unknown',
        reason: failures > 0 ? lastFailure : undefined,
        lastAnswerAt: hasAnswered
          ? new Date(Date.now() - (performance.now() - lastPostAt)).toISOString()
          : null,
      }
    },
    hasFailed: () => failed,
    async stop(withinMs) {
      stopping = true
      wake?.()
      const timer = setTimeout(() => aborter.abort(), withinMs)
      await running
      if (failures === 0 && !aborter.signal.aborted) {
        const { items, upTo } = await gather()
        await post(items, upTo)
      }
      clearTimeout(timer)
    },
  }
}

/** A body that a damaged disk garbled goes up as it is: the Worker refuses it, and it becomes a dead letter. */
function isSent({ json }: SpooledItem): boolean {
  try {
    return JSON.parse(json).kind === 'sent'
  } catch {
    return false
  }
}
