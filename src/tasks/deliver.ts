import { changeDevice, writeDevice } from './change-device.ts'
import type { TaskContext } from './task-context.ts'
import type { UpgradeEvent } from './upgrade.ts'

/** Something that a device said, or that its bridge says of a notice for it. */
export interface TaskMessage {
  deviceId: string
  /** Tells a repeat from a new message. */
  key: string
  event: Extract<
    UpgradeEvent,
    { type: 'progress' | 'version' | 'subscribed' | 'sent' | 'taken' | 'offline' | 'returned' }
  >
}

/**
 * Takes a batch's messages in their order. All messages of one device are looked at, its row is written once. A
 * device that is not in the task is passed over: the message concerned another task.
 */
export function deliver(task: TaskContext, messages: TaskMessage[], now: number): void {
  for (const [deviceId, group] of Map.groupBy(messages, (message) => message.deviceId)) {
    const row = task.storage.readRow(deviceId)
    if (!row) continue
    let changed = row
    for (const { key, event } of group) {
      const always = event.type === 'progress' || event.type === 'version'
      changed = changeDevice(task, changed, event, { ...describe(event), key, always }, now)
    }
    if (changed !== row) writeDevice(task, changed)
  }
  task.storage.writeRun(task.run)
}

function describe(event: TaskMessage['event']): { kind: string; detail: string | null } {
  switch (event.type) {
    case 'progress':
      return {
        kind: 'progress',
        detail: [event.step, event.description].filter((part) => part !== null).join(' '),
      }
    case 'version':
      return { kind: 'version', detail: event.version }
    case 'subscribed':
      return { kind: 'subscribed', detail: null }
    default:
      return { kind: `notice ${event.type}`, detail: String(event.noticeId) }
  }
}
