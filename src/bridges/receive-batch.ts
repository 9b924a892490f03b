import type { Env } from '../common/env.ts'
import { errorFields, logWarning } from '../common/log.ts'
import { platformFault } from '../common/platform-faults.ts'
import { hubStub } from '../hub/hub.ts'
import { type Gathered, gather, newGathered, reject } from '../messages/gather.ts'
import { identify, noticeKey } from '../messages/identify.ts'
import { keepRejections } from '../messages/keep-rejections.ts'
import { writeDevices } from '../messages/store.ts'
import { tellTasks } from '../messages/tell-tasks.ts'
import {
  type BatchAnswer,
  type BatchItem,
  batchItem,
  type ItemResult,
  OVER_SHARE,
} from '../protocol/bridge.ts'
import { type Reason, reason } from '../reasons/reason.ts'
import { answerAsks } from './answer-asks.ts'
import { itemsOverShare } from './device-share.ts'

const MAX_ITEM_ID_LENGTH = 64

/**
 * Takes the batch of a bridge of this hub (src/http/README.md#bridge-and-broker): one query identifies the devices, each task concerned
 * gets one call, and each item has its own result. All of it may be repeated
 * (src/protocol/README.md#order-and-outages).
 */
export async function receiveBatch(
  env: Env,
  hub: string,
  batch: { upTo?: number | undefined; lease?: number | undefined; items: unknown[] },
  now: number,
): Promise<BatchAnswer> {
  const gathered = newGathered()
  try {
    await receiveItems(env, hub, batch, now, gathered)
  } catch (error) {
    if (platformFault(error) === null) throw error
    logWarning('platform.unavailable', { hub, ...errorFields(error) })
    return retryAll(env, hub, batch)
  }
  // A device that takes more than its share must not hold back what is known of all others.
  const handedOver = gathered.results.every(({ status, code }) => status !== 'retry' || code === OVER_SHARE)
  const upTo = handedOver ? batch.upTo : undefined
  const lease = await hubStub(env, hub).batchReceived(upTo, batch.lease, gathered.rejectedCounts)
  return { results: gathered.results, now: Date.now(), lease }
}

/** Nothing of the batch counts as taken: the platform failed half-way, and all of it may be repeated. */
async function retryAll(
  env: Env,
  hub: string,
  { items, lease }: { items: unknown[]; lease?: number | undefined },
): Promise<BatchAnswer> {
  const results = items.map((item) => ({ id: idOf(item), status: 'retry' as const, reason: 'try again' }))
  return { results, now: Date.now(), lease: await hubStub(env, hub).batchReceived(undefined, lease, {}) }
}

/** Fills `gathered`: what each item says, and its result. */
async function receiveItems(
  env: Env,
  hub: string,
  batch: { lease?: number | undefined; items: unknown[] },
  now: number,
  gathered: Gathered,
): Promise<void> {
  const parsed = batch.items.map((item) => ({ id: idOf(item), read: batchItem.safeParse(item) }))
  const items = parsed.flatMap(({ read }) => (read.success ? [read.data] : []))
  if (items.length > 0) {
    const named = { usernames: usernamesOf(items), notices: noticesOf(items) }
    const identified = await identify(env.DB, hub, named, now)
    const over = itemsOverShare(items, identified.senders)
    for (const { id, read } of parsed) {
      if (read.success && over.has(read.data)) gathered.results.push(laterOf(id))
      else if (read.success) gather(gathered, read.data, { ...identified, hub, lease: batch.lease })
      else reject(gathered, id, whyInvalid(read.error.issues))
    }
    await writeDevices(env.DB, gathered, hub, now)
    await tellTasks(env, gathered)
    await answerAsks(env, gathered)
    await keepRejections(env, gathered, now)
  } else for (const { id } of parsed) reject(gathered, id, reason('invalid_item'))
}

const idOf = (item: unknown): string => {
  const id = typeof item === 'object' && item !== null && 'id' in item ? item.id : ''
  return typeof id === 'string' ? id.slice(0, MAX_ITEM_ID_LENGTH) : ''
}

const laterOf = (id: string): ItemResult => ({
  id,
  status: 'retry',
  code: OVER_SHARE,
  reason: 'its device takes more than its share',
})

const usernamesOf = (items: BatchItem[]) => [
  ...new Set(items.flatMap((item) => ('username' in item ? [item.username] : []))),
]

/** `sent` and `taken` of one notice mostly come together. */
const noticesOf = (items: BatchItem[]) => [
  ...new Map(
    items.flatMap((item) => ('notice' in item ? [[noticeKey(item.notice), item.notice] as const] : [])),
  ).values(),
]

/** The first fault of an item, without the faulty value. */
const whyInvalid = ([issue]: { path: PropertyKey[]; message: string }[]): Reason =>
  reason('invalid_item', issue && { path: issue.path.map(String).join('.'), fault: issue.message })
