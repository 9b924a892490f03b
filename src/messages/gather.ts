import { Buffer } from 'node:buffer'
import type { BatchItem, ItemResult } from '../protocol/bridge.ts'
import {
  parseDownlinkTopic,
  readJson,
  readProgress,
  readRequest,
  readVersionReport,
  type TopicFamily,
  type UplinkKind,
  uplinkTopic,
} from '../protocol/device.ts'
import { inEnglish, type Reason, reason } from '../reasons/reason.ts'
import type { BridgeOrder } from '../tasks/rules/bridge-order.ts'
import type { TaskMessage } from '../tasks/steps/deliver.ts'
import { concernedTasks, taskOfProgress } from './concerned.ts'
import { fingerprint } from './fingerprint.ts'
import { type HeldSlot, type Identified, noticeKey, type Sender } from './identify.ts'
import { knownModule, type MeantModule, moduleOfProgress, moduleOfReport } from './modules.ts'

/** A device that asks over MQTT what is due. */
export interface Ask {
  item: number
  sender: Sender
  requestId: string
  module: string | null
  key: string
}

/** A message of a known device that could not be read. */
export interface RejectedMessage {
  sender: Sender
  topic: string
  payload: Uint8Array
  reason: Reason
  /** Absent over HTTPS, where nothing is repeated by itself. */
  key?: string
}

/** `order` is absent over HTTPS, and from a bridge that gives none. */
export interface ReportedVersion {
  deviceId: string
  module: string
  version: string
  order: BridgeOrder | undefined
}

/** Where a message came from: `key` tells a repeat from a new message, `order` an older from a newer one. */
export interface Origin {
  /** The topic or the call. */
  from: string
  key: string
  order?: BridgeOrder | undefined
  viaBridge: boolean
}

/** What a batch is read against: what it names, as far as that is in the bridge's scope. */
export interface BatchContext extends Identified {
  hub: string
  /** The highest lease number that the bridge knows of. */
  lease: number | undefined
}

/** The result of reading a batch: what each task is told, and what is written. Filled in the order of its items. */
export interface Gathered {
  results: ItemResult[]
  toTasks: Map<string, { item: number; message: TaskMessage }[]>
  asks: Ask[]
  versions: Map<string, ReportedVersion>
  /** What changes in the devices' own rows. */
  seen: Map<string, { sender: Sender; family?: TopicFamily; online?: boolean; heard: boolean }>
  rejected: RejectedMessage[]
  /** By reason, also of unknown devices. */
  rejectedCounts: Record<string, number>
  /** The broker was restarted: no device of this bridge is online until it connects again. */
  reset: boolean
}

export const newGathered = (): Gathered => ({
  results: [],
  toTasks: new Map(),
  asks: [],
  versions: new Map(),
  seen: new Map(),
  rejected: [],
  rejectedCounts: {},
  reset: false,
})

/** Tells a repeated item from a new one, whichever bridge of the name brings it. */
const keyOf = ({ lease: _, ...item }: BatchItem) => fingerprint(JSON.stringify(item))

export function reject(gathered: Gathered, id: string, why: Reason): void {
  const { code } = why
  gathered.results.push({ id, status: 'rejected', code, reason: inEnglish(why) })
  // Counted by code, so that no sender can make the list grow.
  gathered.rejectedCounts[code] = (gathered.rejectedCounts[code] ?? 0) + 1
}

/** Takes one valid item of a batch. */
export function gather(gathered: Gathered, item: BatchItem, context: BatchContext): void {
  const why = whyRejected(gathered, item, context)
  if (why === null) gathered.results.push({ id: item.id, status: 'taken' })
  else reject(gathered, item.id, why)
}

/** Null if the item was taken. */
function whyRejected(gathered: Gathered, item: BatchItem, context: BatchContext): Reason | null {
  const index = gathered.results.length
  const { seq, lease } = item
  const order = seq === undefined || lease === undefined ? undefined : { hub: context.hub, lease, seq }
  const from = item.kind === 'message' ? item.topic : ''
  const origin: Origin = { from, key: keyOf(item), order, viaBridge: true }
  // Received before another bridge took over: it no longer says which devices are connected, or where they listen.
  const isLate = lease !== undefined && lease < (context.lease ?? 0)
  if (item.kind === 'sent' || item.kind === 'taken') {
    const known = context.notices.get(noticeKey(item.notice))
    if (known !== 'known') return reason(known === undefined ? 'unknown_device' : 'unknown_task')
    const type = item.kind === 'sent' ? 'sent' : item.result
    const event = { type, noticeId: Number(item.notice.id) } as const
    tell(gathered, index, item.notice.task, { deviceId: item.notice.device, key: origin.key, order, event })
    return null
  }
  if (item.kind === 'presence' && isLate) return null
  if (item.kind === 'presence' && item.event === 'reset') {
    gathered.reset = true
    gathered.seen.clear()
    return null
  }
  const sender = context.senders.get(item.username)
  if (!sender) return reason('unknown_device')
  if (item.kind === 'presence') {
    gatherPresence(gathered, index, sender, item, origin)
    return null
  }
  if (item.kind === 'limited') {
    const why = reason(`over_share_${item.share}`, { times: item.times })
    keepUnmatched(gathered, { sender, topic: '', payload: new Uint8Array(), reason: why, key: origin.key })
    return null
  }
  const payload = Buffer.from(item.payload, 'base64')
  const why = readPublished(gathered, index, sender, item.topic, payload, origin, isLate)
  if (why !== null)
    gathered.rejected.push({ sender, topic: item.topic, payload, reason: why, key: origin.key })
  return why
}

/** Takes what a known device published on a topic; returns why it is rejected, null if it was taken. */
function readPublished(
  gathered: Gathered,
  index: number,
  sender: Sender,
  topicName: string,
  payload: Uint8Array,
  origin: Origin,
  isLate: boolean,
): Reason | null {
  const topic = uplinkTopic(topicName)
  if (!topic) return reason('not_uplink_topic')
  if (!sender.enabled) return reason('sender_disabled')
  const why = gatherMessage(gathered, index, sender, topic.kind, payload, origin)
  if (why !== null) return why
  note(gathered, sender, { ...(!isLate && { family: topic.family }), heard: true })
  return null
}

/**
 * Reads one message of a device and notes the tasks that it concerns. The same code for MQTT and HTTPS. Returns why the
 * message is refused; null if it is taken. Progress of no known upgrade is taken, and kept like a rejection. Whatever the
 * message says, it shows the tasks that have a slot of the device that the device is there.
 */
export function gatherMessage(
  gathered: Gathered,
  index: number,
  sender: Sender,
  kind: UplinkKind,
  payload: Uint8Array,
  origin: Origin,
): Reason | null {
  const why = readMessage(gathered, index, sender, kind, payload, origin)
  tellSeen(gathered, index, sender, origin)
  return why
}

/** The device is there: whoever has a slot of it and is told nothing else by this item hears so. */
export function tellSeen(
  gathered: Gathered,
  index: number,
  sender: Sender,
  { key, order }: Pick<Origin, 'key' | 'order'>,
): void {
  for (const { taskId } of sender.slots.filter(isWatching)) {
    if (gathered.toTasks.get(taskId)?.at(-1)?.item === index) continue
    tell(gathered, index, taskId, { deviceId: sender.id, key, order, event: { type: 'seen' } })
  }
}

/** Does the slot's task want to know that the device is there? The others hear of the subscription that soon follows. */
const isWatching = ({ active, isAssumed }: HeldSlot) => active || isAssumed

function readMessage(
  gathered: Gathered,
  index: number,
  sender: Sender,
  kind: UplinkKind,
  payload: Uint8Array,
  { from, viaBridge, ...mark }: Origin,
): Reason | null {
  const json = readJson(payload)
  if (!json.ok) return reason(json.code)
  const deviceId = sender.id
  const { isDamaged } = json
  const said = { deviceId, ...mark, ...(isDamaged && { isDamaged }) }
  switch (kind) {
    case 'inform': {
      const report = readVersionReport(json.value)
      if (!report.ok) return reason(report.code)
      const { version } = report.value
      const meant = moduleOfReport(sender, report.value.module)
      if ('code' in meant) return meant
      const { module } = meant
      gathered.versions.set(`${deviceId} ${module}`, { deviceId, module, version, order: mark.order })
      for (const { taskId, isHolder } of concernedTasks(sender, module)) {
        const event = { type: 'version', version, isHolder, viaBridge } as const
        tell(gathered, index, taskId, { ...said, ...namedOf(meant), event })
      }
      return null
    }
    case 'progress': {
      const progress = readProgress(json.value)
      if (!progress.ok) return reason(progress.code)
      const { step, description } = progress.value
      const meant = moduleOfProgress(sender, progress.value.module)
      const isUnknown = meant !== null && 'code' in meant
      const taskId = isUnknown ? undefined : taskOfProgress(sender, meant?.module ?? null)
      const event = { type: 'progress', step, description, viaBridge } as const
      if (taskId) tell(gathered, index, taskId, { ...said, ...namedOf(meant), event })
      else {
        const why = isUnknown ? meant : reason('no_upgrade')
        keepUnmatched(gathered, { sender, topic: from, payload, reason: why, key: mark.key })
      }
      return null
    }
    case 'request': {
      const request = readRequest(json.value)
      if (!request.ok) return reason(request.code)
      const { id: requestId, module: name } = request.value
      const module = name === null ? null : (knownModule(sender, name)?.module ?? name)
      gathered.asks.push({ item: index, sender, requestId, module, key: mark.key })
      return null
    }
  }
}

const namedOf = (meant: MeantModule | Reason | null) =>
  meant !== null && 'named' in meant && meant.named !== undefined ? { named: meant.named } : {}

/** No message is taken without a trace. */
function keepUnmatched({ rejected, rejectedCounts }: Gathered, message: RejectedMessage): void {
  const { code } = message.reason
  rejected.push(message)
  rejectedCounts[code] = (rejectedCounts[code] ?? 0) + 1
}

function gatherPresence(
  gathered: Gathered,
  index: number,
  sender: Sender,
  { event, topic }: { event: 'connected' | 'disconnected' | 'subscribed'; topic?: string | undefined },
  { from: _from, viaBridge: _viaBridge, ...mark }: Origin,
): void {
  const online = event !== 'disconnected'
  const family = event === 'subscribed' ? parseDownlinkTopic(topic ?? '')?.family : undefined
  note(gathered, sender, { online, heard: online, ...(family && { family }) })
  if (event !== 'subscribed') {
    const holders = new Set(sender.slots.filter(isWatching).map(({ taskId }) => taskId))
    for (const taskId of holders) {
      tell(gathered, index, taskId, { deviceId: sender.id, ...mark, event: { type: event } })
    }
    return
  }
  if (!sender.enabled) return
  for (const { taskId } of concernedTasks(sender, null)) {
    tell(gathered, index, taskId, { deviceId: sender.id, ...mark, event: { type: 'subscribed' } })
  }
}

function tell(gathered: Gathered, item: number, taskId: string, message: TaskMessage): void {
  const messages = gathered.toTasks.get(taskId)
  if (messages) messages.push({ item, message })
  else gathered.toTasks.set(taskId, [{ item, message }])
}

function note(
  gathered: Gathered,
  sender: Sender,
  change: { family?: TopicFamily; online?: boolean; heard: boolean },
): void {
  const before = gathered.seen.get(sender.id)
  const heard = change.heard || before?.heard === true
  gathered.seen.set(sender.id, { ...before, sender, ...change, heard })
}
