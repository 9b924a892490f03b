import type { TaskContext } from './task-context.ts'
import type { DeviceRow, HistoryEvent } from './task-storage.ts'
import { transition } from './transition.ts'
import { isEnded, type Upgrade, type UpgradeEvent } from './upgrade.ts'

/** How an event stands in the device's history. */
export interface Note {
  kind: string
  detail?: string | null
  /** The fingerprint of the message behind the event: the same one again changes nothing. */
  key?: string
  /** Kept also where nothing changed: what a device said belongs to its history. */
  always?: boolean
}

/**
 * Lets an event happen to a device: state, counts, history and what has to be written to D1, in memory. Answers
 * the row to write, or the same one where nothing happened.
 */
export function changeDevice(
  task: TaskContext,
  row: DeviceRow,
  event: UpgradeEvent,
  note: Note,
  now: number,
): DeviceRow {
  if (note.key !== undefined && row.events.some((past) => past.key === note.key)) return row
  const before = row.upgrade
  const after = transition(before, event, {
    targetVersion: task.spec.package.version,
    confirm: task.spec.policy.confirm,
    mismatchPushes: task.spec.policy.mismatchPushes,
    now,
  })
  if (after === before && !note.always) return row
  if (after.status !== before.status) {
    task.run.counts[before.status]--
    task.run.counts[after.status]++
    if (task.run.unwritten === 'no') task.run.unwritten = 'counts'
  }
  const past: HistoryEvent = {
    at: now,
    kind: note.kind,
    detail: note.detail ?? null,
    ...(after.status !== before.status && { status: after.status }),
    ...(note.key !== undefined && { key: note.key }),
  }
  return {
    ...row,
    upgrade: after,
    updatedAt: after === before ? row.updatedAt : now,
    outbox: row.outbox || endedAnew(before, after),
    fromVersion: event.type === 'version' && after.status === 'pending' ? event.version : row.fromVersion,
    events: [...row.events, past],
  }
}

/** Loads, changes and writes one device. Answers whether anything happened. */
export function changeStored(
  task: TaskContext,
  deviceId: string,
  event: UpgradeEvent,
  note: Note,
  now: number,
): boolean {
  const row = task.storage.readRow(deviceId)
  if (!row) return false
  const changed = changeDevice(task, row, event, note, now)
  if (changed === row) return false
  writeDevice(task, changed)
  return true
}

/** `silentAt` (ms) where a silence is to be looked at later than the device's own messages say. */
export function writeDevice(task: TaskContext, row: DeviceRow, silentAt = 0): void {
  task.storage.writeRow(row, timerAt(row.upgrade, timeoutMs(task), silentAt))
}

export const timeoutMs = (task: TaskContext) => task.spec.policy.deviceTimeoutMinutes * 60_000

/** When a device is to be looked at although it says nothing: its notice's lease, or its silence. */
function timerAt(upgrade: Upgrade, timeout: number, silentAt: number): number | null {
  if (isEnded(upgrade.status)) return null
  const lease = upgrade.offer && upgrade.owed === 'no' ? upgrade.offer.leaseUntil : null
  const silence =
    upgrade.status === 'upgrading' ? Math.max((upgrade.lastMessageAt ?? 0) + timeout, silentAt) : null
  return lease === null || silence === null ? (lease ?? silence) : Math.min(lease, silence)
}

function endedAnew(before: Upgrade, after: Upgrade): boolean {
  if (!isEnded(after.status)) return false
  return (
    before.status !== after.status ||
    before.description !== after.description ||
    before.rolledBack !== after.rolledBack
  )
}
