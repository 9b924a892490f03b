import { formatNoticeId } from '../../protocol/device.ts'
import type { EventCode, Params } from '../../reasons/reason.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { changeDevice, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { cancellationAnswered } from '../notices/cancellations.ts'
import { noteBroker, noteConfirmed, noteReturned } from '../notices/turn.ts'
import { type BridgeOrder, compareOrder } from '../rules/bridge-order.ts'
import { isEnded, type UpgradeEvent } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'

/** A device that lost its connection may be back at once; its silence is looked at after this. */
const DISCONNECTED_GRACE_MS = 60_000

/** Something that a device said, or that its bridge says of it or of a notice for it. */
export interface TaskMessage {
  deviceId: string
  /** Tells a repeat from a new message. */
  key: string
  /** Its place among what the bridge hands over; absent if it came another way. */
  order?: BridgeOrder | undefined
  /** It was no JSON, and was read field by field. */
  isDamaged?: true
  /** What the device called the module, if that is another name than ours. */
  named?: string
  event:
    | Extract<
        UpgradeEvent,
        {
          type:
            | 'progress'
            | 'version'
            | 'subscribed'
            | 'connected'
            | 'seen'
            | 'sent'
            | 'taken'
            | 'offline'
            | 'returned'
        }
      >
    | { type: 'disconnected' }
}

/**
 * Takes a batch's messages in their order. All messages of a device are looked at, and its row is written once. A
 * device that is not in the task is skipped: the message is for another task, or the device joins this one later.
 */
export function deliver(task: TaskContext, messages: TaskMessage[]): void {
  // Before its start a task does nothing: a device that reports the target meanwhile is found on it then.
  if (task.run.startedAt === null) return
  const byDevice = Map.groupBy(messages, (message) => message.deviceId)
  const rows = new Map(task.storage.readRowsOf([...byDevice.keys()]).map((row) => [row.deviceId, row]))
  for (const [deviceId, group] of byDevice) {
    const row = rows.get(deviceId)
    if (!row || row.upgrade.left) {
      if (group.some(({ event }) => event.type === 'version')) noteNewcomers(task, [deviceId])
    }
    // What a device says in another product is not about this one.
    if (!row || row.upgrade.left) continue
    if (group.some(({ event }) => event.type === 'version')) {
      for (const outdated of task.outdated) outdated.add(deviceId)
    }
    let changed = row
    let lookAt = 0
    for (const message of group) {
      const age = compareOrder(message.order, changed.heard)
      if (age === 'repeated') continue
      if (age === 'late') changed = noteLate(task, changed, message)
      else if (message.event.type === 'disconnected') lookAt = task.now() + DISCONNECTED_GRACE_MS
      else changed = take(task, changed, { ...message, event: message.event })
    }
    if (changed !== row || (lookAt > 0 && changed.upgrade.status === 'pushed'))
      writeDevice(task, changed, lookAt)
  }
  // What they said may halt the task, or open its next wave.
  applyPlan(task)
  task.save()
}

function take(
  task: TaskContext,
  row: DeviceRow,
  { key, order, event, ...how }: TaskMessage & { event: DeviceEvent },
): DeviceRow {
  const cancelled = 'noticeId' in event ? cancellationAnswered(task, row, event) : undefined
  if (cancelled) return cancelled
  const always = event.type === 'progress' || event.type === 'version'
  const changed = changeDevice(task, row, event, { ...toNote(event, how), key, always })
  if (changed !== row && !isEnded(row.upgrade.status)) noteBridge(task, event)
  return changed === row || !order ? changed : { ...changed, heard: order }
}

/** What the message says of the bridge and its broker. */
function noteBridge(task: TaskContext, event: DeviceEvent): void {
  if (event.type === 'taken' || event.type === 'offline') noteConfirmed(task)
  else if (event.type === 'returned') noteReturned(task)
  else if (cameThroughBroker(event)) noteBroker(task)
}

const cameThroughBroker = (event: DeviceEvent) =>
  event.type === 'subscribed' || event.type === 'connected' || ('viaBridge' in event && event.viaBridge)

/** A bridge that was replaced brings what it still had: it is kept in the history, and changes nothing. */
function noteLate(task: TaskContext, row: DeviceRow, { key, event }: TaskMessage): DeviceRow {
  if (event.type !== 'progress' && event.type !== 'version') return row
  const { params } = toNote(event)
  const code = event.type === 'progress' ? 'late_progress' : 'late_version'
  return changeDevice(task, row, { type: 'late' }, { code, params, key, always: true })
}

/** These devices may match by now: a dynamic task looks at them. */
export function noteNewcomers({ run, spec, queues }: TaskContext, deviceIds: string[]): void {
  const isOver = run.status === 'finished' || run.status === 'cancelled' || run.ended
  if (!spec.policy.dynamic || run.startedAt === null || isOver) return
  for (const deviceId of deviceIds) queues.insertNewcomer(deviceId)
}

type DeviceEvent = Exclude<TaskMessage['event'], { type: 'disconnected' }>

function toNote(
  event: DeviceEvent,
  { isDamaged, named }: Pick<TaskMessage, 'isDamaged' | 'named'> = {},
): { code: EventCode; params: Params } {
  const module: Params = named === undefined ? {} : { named }
  switch (event.type) {
    case 'progress': {
      const { step, description: said } = event
      const code = isDamaged ? 'damaged_progress' : 'progress'
      return { code, params: { step, ...(said !== null && { said }), ...module } }
    }
    case 'version':
      return {
        code: isDamaged ? 'damaged_version' : 'version',
        params: { version: event.version, ...module },
      }
    case 'subscribed':
    case 'connected':
    case 'seen':
      return { code: event.type, params: {} }
    default:
      return { code: `notice_${event.type}`, params: { noticeId: formatNoticeId(event.noticeId) } }
  }
}
