import { type FrameToBridge, MAX_CREDIT, type NoticeFrame, type NoticeRef } from '../src/protocol/bridge.ts'
import type { Broker, PublishResult } from './brokers/broker.ts'
import type { Intake } from './intake.ts'
import { errorFields, type Log } from './log.ts'

export interface Downlink {
  receive(frame: FrameToBridge): void
  /** How many more notices the hub may send now. */
  credit(): number
  /** Takes up no more notices and waits until those in hand are settled, at most `withinMs`. */
  settle(withinMs: number): Promise<void>
  counts: {
    taken: number
    offline: number
    returned: number
    ignored: number
    replies: number
    drops: number
  }
}

/** Credit for all notices that were settled within this time goes back in one frame. */
const CREDIT_EVERY_MS = 20

const nameOf = (ref: NoticeRef) => `${ref.task}/${ref.device}/${ref.id}`

/**
 * Publishes notices: a `sent` record is durable before its notice is published, a `taken` record says how that ended,
 * and only then the hub gets its credit back. Implements src/protocol/README.md#order-and-outages.
 */
export function createDownlink(options: {
  broker: Broker
  intake: Intake
  credit: number
  publishWithinMs: number
  grant: (add: number) => void
  log: Log
}): Downlink {
  const { broker, intake, log } = options
  const counts = { taken: 0, offline: 0, returned: 0, ignored: 0, replies: 0, drops: 0 }
  const inHand = new Set<string>()
  let granting: NodeJS.Timeout | undefined
  let settled = 0
  let line: Promise<void> = Promise.resolve()
  let onEmpty: (() => void) | undefined
  let stopping = false

  function giveCredit(add: number): void {
    settled += add
    granting ??= setTimeout(() => {
      granting = undefined
      const all = settled
      settled = 0
      if (all > 0) options.grant(Math.min(all, MAX_CREDIT))
    }, CREDIT_EVERY_MS)
  }

  function finish(frame: NoticeFrame, result: PublishResult | undefined): void {
    const { notice } = frame
    if (result) {
      counts[result]++
      intake.keep(frame.username, { kind: 'taken', notice, result })
    }
    inHand.delete(nameOf(notice))
    giveCredit(1)
    if (inHand.size === 0) onEmpty?.()
  }

  async function publish(frame: NoticeFrame): Promise<void> {
    const { topic, payload, expiresInSeconds } = frame
    finish(frame, await broker.publish(topic, payload, { qos: 1, expiresInSeconds }))
  }

  /** Publishes one frame's notices in order. Resolves when their `sent` records are written and the next may follow. */
  async function takeUp(frames: readonly NoticeFrame[], deadline: number): Promise<void> {
    const reachable = (await broker.ready(deadline - performance.now())) && performance.now() <= deadline
    const going: NoticeFrame[] = []
    for (const frame of frames) {
      if (!reachable) finish(frame, 'returned')
      else if ((await broker.hasSubscriber(frame.topic)) === false) finish(frame, 'offline')
      else going.push(frame)
    }
    const records = going.map((frame) =>
      intake.record(frame.username, [{ kind: 'sent', notice: frame.notice }]).then(
        () => publish(frame),
        // A notice without its `sent` record must not go out. When its lease at the task ends, the task sends it again.
        () => finish(frame, undefined),
      ),
    )
    // All records of one turn are written together, so the publishes have begun, in order, by the next turn.
    await Promise.race([Promise.allSettled(records), new Promise((resolve) => setImmediate(resolve))])
  }

  function receiveNotices(items: readonly NoticeFrame[]): void {
    const deadline = performance.now() + options.publishWithinMs
    const fresh: NoticeFrame[] = []
    if (stopping) {
      // Their task sends them again, through the bridge that takes over.
      for (const { username, notice } of items)
        intake.keep(username, { kind: 'taken', notice, result: 'returned' })
      counts.returned += items.length
      return
    }
    for (const frame of items) {
      const name = nameOf(frame.notice)
      if (inHand.has(name) || inHand.size >= MAX_CREDIT) continue
      inHand.add(name)
      fresh.push(frame)
    }
    const ignored = items.length - fresh.length
    counts.ignored += ignored
    if (ignored > 0) giveCredit(ignored)
    line = line
      .then(() => takeUp(fresh, deadline))
      .catch((error: unknown) =>
        log.error({ code: 'bridge.downlink_failed', ...errorFields(error) }, 'the downlink failed'),
      )
  }

  return {
    counts,
    credit: () => {
      // The hello states the whole credit, so what was settled before must not be granted again.
      settled = 0
      return stopping ? 0 : Math.max(0, options.credit - inHand.size)
    },
    receive(frame) {
      if (frame.t === 'notices') receiveNotices(frame.items)
      else if (frame.t === 'reply') {
        counts.replies++
        line = line.then(() => void broker.publish(frame.topic, frame.payload, { qos: 1 }))
      } else if (frame.t === 'drop') {
        counts.drops++
        broker.dropSessions(frame.username)
      }
    },
    async settle(withinMs) {
      stopping = true
      if (inHand.size > 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, withinMs)
          onEmpty = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
      clearTimeout(granting)
    },
  }
}
