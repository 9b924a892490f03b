import type { Env } from '../common/env.ts'
import { errorFields, logError, logWarning } from '../common/log.ts'
import { platformFault } from '../common/platform-faults.ts'
import { hubStub } from '../hub/hub.ts'
import { concernedTasks } from '../messages/concerned.ts'
import { type Ask, type Gathered, gather, newGathered, reject } from '../messages/gather.ts'
import { identify, noticeKey } from '../messages/identify.ts'
import { keepRejections } from '../messages/keep-rejections.ts'
import { writeDevices } from '../messages/store.ts'
import { retry, tellTasks } from '../messages/tell-tasks.ts'
import { type BatchAnswer, type BatchItem, batchItem } from '../protocol/bridge.ts'
import { buildNothingDue, downlinkTopic } from '../protocol/device.ts'
import { type Reason, reason } from '../reasons/reason.ts'
import { taskStub } from '../tasks/api/task-stub.ts'

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
  const handedOver = gathered.results.every(({ status }) => status !== 'retry')
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
    for (const { id, read } of parsed) {
      if (read.success) gather(gathered, read.data, { ...identified, hub, lease: batch.lease })
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

/** The newest task with a due notice sends it. If no task has one, the device is told so, under its request's id. */
async function answerAsks(env: Env, gathered: Gathered): Promise<void> {
  const open = gathered.asks
    .filter(({ item }) => gathered.results[item]?.status === 'taken')
    .map((ask) => ({ ask, tasks: concernedTasks(ask.sender, ask.module) }))
  // In rounds, so that one call to a task serves all devices that ask it.
  for (let round = 0; open.some(({ tasks }) => tasks.length > round); round++) {
    const asking = open.filter(({ tasks }) => tasks.length > round)
    const answered = new Set<Ask>()
    await Promise.all(
      [...Map.groupBy(asking, ({ tasks }) => tasks[round]!.taskId)].map(async ([taskId, group]) => {
        try {
          const asks = group.map(({ ask }) => ({ deviceId: ask.sender.id, key: ask.key }))
          const due = new Set(await taskStub(env, taskId).ask(asks))
          for (const { ask } of group) if (due.has(ask.sender.id)) answered.add(ask)
        } catch (error) {
          logError('receive.ask_failed', { taskId, ...errorFields(error) })
          for (const { ask } of group) {
            retry(gathered.results, ask.item)
            answered.add(ask)
          }
        }
      }),
    )
    for (const entry of asking) if (answered.has(entry.ask)) open.splice(open.indexOf(entry), 1)
  }
  await Promise.all(
    open.map(({ ask: { sender, requestId } }) =>
      hubStub(env, sender.hub).reply(downlinkTopic(sender), JSON.stringify(buildNothingDue(requestId))),
    ),
  )
}
