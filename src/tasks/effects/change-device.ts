import { isWaveOpen, recount } from '../rules/counts.ts'
import { earliest } from '../rules/rollout.ts'
import { transition } from '../rules/transition.ts'
import { codeOf, isEnded, type Upgrade, type UpgradeEvent, type UpgradeRules } from '../rules/upgrade.ts'
import { placeOf, waveOfPlace } from '../rules/waves.ts'
import { type DeviceRow, NEXT_PAGE, owedAt } from '../storage/device-row.ts'
import type { HistoryEvent } from '../storage/history.ts'
import type { TaskContext } from './task-context.ts'
import { announce } from './webhook-events.ts'

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
  const changed = transition(before, event, rulesOf(task, now))
  if (changed === before && !note.always) return row
  const after = recount(task.run, waveOf(task, row), before, changed)
  const past: HistoryEvent = {
    at: now,
    kind: note.kind,
    detail: note.detail ?? null,
    ...(after.status !== before.status && { status: after.status }),
    ...(note.key !== undefined && { key: note.key }),
  }
  const next: DeviceRow = {
    ...row,
    upgrade: after,
    updatedAt: after === before ? row.updatedAt : now,
    outbox: endedAnew(before, after) ? NEXT_PAGE : row.outbox,
    fromVersion: event.type === 'version' && after.status === 'pending' ? event.version : row.fromVersion,
    // That it still waits for the same is nothing new.
    events: isHeldAsBefore(event, before) ? row.events : [...row.events, past],
  }
  noteEnd(task, next, before, now)
  return next
}

const isHeldAsBefore = (event: UpgradeEvent, before: Upgrade) =>
  event.type === 'held' && before.heldBy === event.by

const rulesOf = ({ spec, run }: TaskContext, now: number): UpgradeRules => ({
  targetVersion: spec.targetVersion,
  confirm: spec.policy.confirm,
  mismatchPushes: spec.policy.mismatchPushes,
  // Past its end the task begins nothing.
  autoRetry: run.endCursor === null ? spec.policy.autoRetry : undefined,
  linksAreDead: run.linksStop && run.status === 'paused',
  now,
})

/** The wave that a device falls into; −1 before the devices are spread over them. */
export const waveOf = ({ spec, run }: TaskContext, row: Pick<DeviceRow, 'deviceId' | 'wave'>): number =>
  row.wave ?? (run.cuts ? waveOfPlace(run.cuts, placeOf(spec.id, row.deviceId)) : -1)

/** A Failure goes into the breakdown, what an operator wants to hear of to the webhooks. */
function noteEnd(
  task: TaskContext,
  { deviceId, number, upgrade }: DeviceRow,
  before: Upgrade,
  now: number,
): void {
  const failed = upgrade.status === 'failure'
  const hadFailed = before.status === 'failure'
  if (hadFailed && !failed) task.journal.countFailure(before.cause, before.description, -1)
  const { description, attempt, rolledBack } = upgrade
  if (failed && !hadFailed) {
    task.journal.countFailure(upgrade.cause, description, 1)
    const code = codeOf(upgrade.cause)
    announce(task, 'device.failed', { deviceId, number, attempt, code, description }, now)
  }
  if (rolledBack && !before.rolledBack) {
    announce(task, 'device.rolled_back', { deviceId, number, attempt, description }, now)
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
  const sendAt = isWaveOpen(task.run, waveOf(task, row)) ? owedAt(row.upgrade) : null
  // What an ended device's timer said of its silence says nothing of its retry.
  const present = isEnded(row.upgrade.status) ? { ...row, timerAt: null } : row
  task.storage.writeRow(present, sendAt, timerAt(row.upgrade, timeoutMs(task), silentAt))
}

export const timeoutMs = (task: TaskContext) => task.spec.policy.deviceTimeoutMinutes * 60_000

/** When a device is to be looked at although it says nothing: its notice's lease, its silence, its retry. */
function timerAt(upgrade: Upgrade, timeout: number, silentAt: number): number | null {
  if (isEnded(upgrade.status)) return upgrade.retryAt
  const lease = upgrade.offer && upgrade.owed === 'no' ? upgrade.offer.leaseUntil : null
  const silence = isListenedFor(upgrade) ? Math.max(lastHeardAt(upgrade) + timeout, silentAt) : null
  return earliest(lease, silence)
}

/** Its silence means something: it has begun, or has a notice and was seen since. */
export const isListenedFor = (upgrade: Upgrade) =>
  upgrade.status === 'upgrading' ||
  (upgrade.status === 'pushed' && upgrade.reachedAt !== null && !upgrade.gone)

/** Its latest message; of a device that has said nothing, when it got its notice. */
export const lastHeardAt = ({ status, lastMessageAt, lastTakenAt, reachedAt }: Upgrade) =>
  status === 'upgrading'
    ? (lastMessageAt ?? 0)
    : Math.max(lastMessageAt ?? 0, lastTakenAt ?? 0, reachedAt ?? 0)

function endedAnew(before: Upgrade, after: Upgrade): boolean {
  if (!isEnded(after.status)) return false
  return (
    before.status !== after.status ||
    before.description !== after.description ||
    before.rolledBack !== after.rolledBack
  )
}
