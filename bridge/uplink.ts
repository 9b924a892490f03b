import { setImmediate as nextTurn } from 'node:timers/promises'
import { type BatchAnswer, MAX_BATCH_BYTES, MAX_BATCH_ITEMS } from '../src/protocol/bridge.ts'
import { backoffMs } from './backoff.ts'
import type { Intake } from './intake.ts'
import { type Log, limited } from './log.ts'
import { createParking } from './parking.ts'
import type { Spool, SpooledItem } from './spool.ts'
import { nextUpTo, type WorkerClock } from './up-to.ts'
import type { WorkerClient } from './worker-client.ts'

export interface Uplink {
  /** Posts what is left once more if the Worker was there last time, and ends. */
  stop(withinMs: number): Promise<void>
  counts: { batches: number; taken: number; rejected: number; retried: number; dead: number }
  /** How the Worker answers; `unknown` before it was first asked. */
  worker(): WorkerHealth
  /** What was handed over could not be taken out of the spool: its disk, most likely. */
  hasStumbled(): boolean
}

export interface WorkerHealth {
  state: 'ok' | 'away' | 'unknown'
  /** Of the last failure: a status or the name of an error. */
  reason?: string | undefined
  /** ISO 8601; null before the first. */
  lastAnswerAt: string | null
}

/** Single messages go up quickly, bursts in one batch. */
const LINGER_MS = 10
/** Room in the batch for what stands around its items. */
const ENVELOPE_BYTES = 4096
const SPOOL_RETRY_MS = 5_000
/** So long a `sent` record waits for what becomes of its notice: both in one batch are one row of the device. */
const SENT_WAITS_MS = 500

export interface UplinkOptions {
  bridge: string
  spool: Spool
  intake: Intake
  worker: WorkerClient
  clock: WorkerClock
  /** A bridge that stands by hands over what it still holds, and says nothing of how far. */
  isActive: () => boolean
  /** Monotonic time (ms) up to which the broker has handed over everything; undefined: it does not know. */
  receivedUpTo: () => number | undefined
  upToIntervalMs: number
  backoffBaseMs: number
  log: Log
}

/**
 * Empties the spool to the Worker: in order, one batch in flight, each item until it is taken or rejected
 * (API.md, "Bridge").
 */
export function startUplink(options: UplinkOptions): Uplink {
  const { spool, intake, worker, clock, log } = options
  const counts = { batches: 0, taken: 0, rejected: 0, retried: 0, dead: 0 }
  const parking = createParking(options.backoffBaseMs)
  const aborter = new AbortController()
  const logFailure = limited(() =>
    log.warn({ reason: lastFailure, failures }, 'the Worker takes no messages'),
  )
  const logRejected = limited((count) => log.info(count, 'messages were rejected by the Worker'))

  let stopping = false
  let wake: (() => void) | undefined
  let failures = 0
  let lastFailure = ''
  let batchLimit = MAX_BATCH_ITEMS
  /** An item that was refused alone, although an empty batch was not. */
  let suspect: number | undefined
  let lastUpTo: number | undefined
  let lastPostAt = Number.NEGATIVE_INFINITY
  /** An answer of this run has said which lease is the newest: what was spooled before may be older. */
  let knowsLease = false
  let stumbled = false

  intake.onWritten(() => wake?.())

  /** Ends early when something was written (`forWork`) or the bridge stops. */
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

  /** What could be posted now, and what that lets us say about time. */
  async function gather(): Promise<{ items: SpooledItem[]; upTo: number | undefined; parkedMs: number }> {
    const receivedUpTo = options.receivedUpTo()
    const bound = receivedUpTo === undefined ? undefined : clock.at(receivedUpTo)
    // One turn of the event loop, so that what the sockets held at that moment is in line, and then in the spool.
    await nextTurn()
    intake.flush()
    const parkedMs = parking.nextMs()
    const limit = knowsLease ? batchLimit : 0
    const items = spool.peek(limit, MAX_BATCH_BYTES - ENVELOPE_BYTES, parking.keys())
    return { items, upTo: nextUpTo(bound, spool.oldest(), lastUpTo), parkedMs }
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
    const results = new Map(answer.results.map((result) => [result.id, result.status]))
    const gone: SpooledItem[] = []
    const stay = new Set<string>()
    for (const item of items) {
      const status = results.get(item.id) ?? 'retry'
      if (status === 'retry') stay.add(item.key)
      else gone.push(item)
      counts[status === 'retry' ? 'retried' : status]++
      if (status === 'rejected') logRejected()
    }
    for (const key of new Set(items.map((item) => item.key))) {
      if (stay.has(key)) parking.park(key)
      else parking.free(key)
    }
    spool.drop(gone)
    if (gone.length > 0) intake.drained()
  }

  /** A batch that the Worker cannot read: halved until one item is left, and that one is put aside. */
  async function narrow(items: readonly SpooledItem[], status: number): Promise<boolean> {
    const [item] = items
    if (items.length > 1) {
      batchLimit = Math.ceil(items.length / 2)
      return true
    }
    if (item === undefined) return false
    if (suspect !== item.seq) {
      // If even an empty batch is refused, it is not the item's fault; if not, it is refused once more.
      const probe = await worker.postBatch(envelope([], lastUpTo), aborter.signal)
      suspect = probe.kind === 'answered' ? item.seq : undefined
      return suspect !== undefined
    }
    spool.bury(item, `status ${status}`)
    counts.dead++
    log.error({ id: item.id, status }, 'an item was put aside: the Worker cannot read it')
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
      suspect = undefined
      counts.batches++
      settle(items, outcome.answer)
      return
    }
    if (outcome.kind === 'refused' && (await narrow(items, outcome.status))) return
    failures++
    lastFailure = outcome.kind === 'failed' ? outcome.reason : `status ${outcome.status}`
    if (!stopping) logFailure()
    const delay = backoffMs(failures, options.backoffBaseMs)
    await sleep(Math.max(delay, outcome.kind === 'failed' ? outcome.retryAfterMs : 0), false)
  }

  let alone = Number.POSITIVE_INFINITY

  /** How long there is nothing to post but `sent` records; 0 where there is more, or they have waited. */
  function waitsMs(items: readonly SpooledItem[]): number {
    const isAlone = items.length > 0 && items.every(isSent)
    if (!isAlone) alone = Number.POSITIVE_INFINITY
    else alone = Math.min(alone, performance.now())
    return isAlone && !stopping ? Math.max(0, alone + SENT_WAITS_MS - performance.now()) : 0
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
        stumbled = false
      } catch (error) {
        stumbled = true
        // The spool's disk, most likely. Items that could not be dropped go up twice, which changes nothing.
        log.error({ err: error }, 'the uplink stumbled')
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
    hasStumbled: () => stumbled,
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

const isSent = ({ json }: SpooledItem) => JSON.parse(json).kind === 'sent'
