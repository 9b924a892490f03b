import { type EventCode, isSameReason, type Params } from '../../reasons/reason.ts'
import { isWaveOpen, recount } from '../rules/counts.ts'
import { earliest } from '../rules/rollout.ts'
import { linksStoppedUntil } from '../rules/stops.ts'
import { transition } from '../rules/transition.ts'
import {
  codeOf,
  isEnded,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeRules,
  versionAfter,
} from '../rules/upgrade.ts'
import { placeOf, waveOfPlace } from '../rules/waves.ts'
import { type DeviceRow, NEXT_PAGE, owedAt } from '../storage/device-row.ts'
import { type HistoryEvent, withEvent } from '../storage/history.ts'
import type { TaskContext } from './task-context.ts'
import { queueWebhookEvent } from './webhook-events.ts'

/** How an event stands in the device's history. */
export interface Note {
  code: EventCode
  params?: Params
  /** The fingerprint of the message behind the event: the same message again changes nothing. */
  key?: string
  /** Kept even if nothing changed: what a device said belongs to its history. */
  always?: boolean
}

/**
 * Lets an event happen to a device, in memory: its state, the task's counts, its history, and what is to be written
 * to D1. Returns the row to write, or the same row if nothing happened.
 */
export function changeDevice(task: TaskContext, row: DeviceRow, event: UpgradeEvent, note: Note): DeviceRow {
  const { code, params = {}, key } = note
  if (key !== undefined && row.events.some((past) => past.key === key)) return row
  const now = task.now()
  const before = row.upgrade
  const changed = transition(before, event, rulesOf(task, now))
  if (changed === before && !note.always) return row
  const after = recount(task.run, waveOf(task, row), before, changed, now)
  const past: HistoryEvent = {
    at: now,
    code,
    params,
    ...(after.status !== before.status && { status: after.status }),
    ...(key !== undefined && { key }),
  }
  const next: DeviceRow = {
    ...row,
    upgrade: after,
    updatedAt: after === before ? row.updatedAt : now,
    outbox: endedAnew(before, after) ? NEXT_PAGE : row.outbox,
    fromVersion: event.type === 'version' && after.status === 'pending' ? event.version : row.fromVersion,
    // A device that waits for the same thing as before has no new event.
    events: isHeldAsBefore(event, before) ? row.events : withEvent(row.events, past),
  }
  noteEnd(task, next, before)
  return next
}

const isHeldAsBefore = (event: UpgradeEvent, before: Upgrade) =>
  event.type === 'held' && isSameReason(before.heldBy, event.by)

const rulesOf = ({ spec, run }: TaskContext, now: number): UpgradeRules => ({
  targetVersion: spec.targetVersion,
  confirm: spec.policy.confirm,
  mismatchPushes: spec.policy.mismatchPushes,
  // After its end the task begins nothing.
  autoRetry: run.endCursor === null ? spec.policy.autoRetry : undefined,
  linksStoppedUntil: linksStoppedUntil(run, now),
  now,
})

/** The device's wave, from 0; −1 before the devices are spread over the waves. */
export const waveOf = ({ spec, run }: TaskContext, row: Pick<DeviceRow, 'deviceId' | 'wave'>): number =>
  row.wave ?? (run.cuts ? waveOfPlace(run.cuts, placeOf(spec.id, row.deviceId)) : -1)

/** Counts a Failure in the task's breakdown, and tells webhooks of a Failure or a rollback. */
function noteEnd(task: TaskContext, { deviceId, number, upgrade }: DeviceRow, before: Upgrade): void {
  const { attempt, cause, description, reason: because, rolledBack, status } = upgrade
  const failed = status === 'failure'
  const hadFailed = before.status === 'failure'
  if (hadFailed && !failed) task.journal.countFailure(before, -1)
  if (failed && !hadFailed) {
    task.journal.countFailure(upgrade, 1)
    const code = codeOf(cause)
    queueWebhookEvent(task, 'device.failed', { deviceId, number, attempt, code, description, because })
  }
  if (rolledBack && !before.rolledBack) {
    queueWebhookEvent(task, 'device.rolled_back', { deviceId, number, attempt, description, because })
  }
}

/** Reads, changes and writes one device. Returns whether anything happened. */
export function changeStored(task: TaskContext, deviceId: string, event: UpgradeEvent, note: Note): boolean {
  const row = task.storage.readRow(deviceId)
  if (!row) return false
  const changed = changeDevice(task, row, event, note)
  if (changed === row) return false
  writeDevice(task, changed)
  return true
}

/** `silentAt` (ms since 1970): its silence is to be looked at then, if that is later than its own messages say. */
export function writeDevice(task: TaskContext, row: DeviceRow, silentAt = 0): void {
  const sendAt = isWaveOpen(task.run, waveOf(task, row)) ? owedAt(row.upgrade) : null
  const at = timerAt(task, row.upgrade, silentAt)
  // A timer of the attempt that ended is not the timer of its retry.
  const present = row.upgrade.retryAt !== null && row.timerAt !== at ? { ...row, timerAt: null } : row
  task.storage.writeRow(present, sendAt, at)
}

export const timeoutMs = (task: TaskContext) => task.spec.policy.deviceTimeoutMinutes * 60_000

/** When a silent device is to be looked at: its notice's lease, its silence or its retry. */
function timerAt(task: TaskContext, upgrade: Upgrade, silentAt: number): number | null {
  const timeout = timeoutMs(task)
  if (upgrade.unseen && !upgrade.gone) {
    const { waves, haltOn } = task.spec.policy
    const silence = lastHeardAt(upgrade) + timeout
    // If no gate waits for it, it need not be looked at so soon.
    return Math.max(waves || haltOn ? Math.min(stillThereAt(upgrade), silence) : silence, silentAt)
  }
  if (isEnded(upgrade.status)) return upgrade.retryAt
  const lease = upgrade.offer && upgrade.owed === 'no' ? upgrade.offer.leaseUntil : null
  const silence = isSilenceWatched(upgrade) ? Math.max(lastHeardAt(upgrade) + timeout, silentAt) : null
  return earliest(lease, silence)
}

/** After 100 %: a device that is connected then is still there (src/protocol/README.md#what-gates-count). */
const STILL_THERE_MS = 5 * 60_000
/** Devices of one batch are looked at together, so that they have one timer. */
const STEP_MS = 10_000

/** From when on (ms since 1970) its connection shows that the device outlived its 100 %. */
export const stillThereAt = ({ lastMessageAt }: Upgrade) =>
  Math.ceil(((lastMessageAt ?? 0) + STILL_THERE_MS) / STEP_MS) * STEP_MS

/** Does the device's silence mean something? It has begun, said 100 %, or has a notice and was seen since. */
export const isSilenceWatched = (upgrade: Upgrade) =>
  upgrade.status === 'upgrading' ||
  (upgrade.unseen && !upgrade.gone) ||
  (upgrade.status === 'pushed' && upgrade.reachedAt !== null && !upgrade.gone)

/** The time of its latest message; of a Pushed device that has said nothing, when it got its notice. */
export const lastHeardAt = ({ status, lastMessageAt, lastTakenAt, reachedAt }: Upgrade) =>
  status === 'upgrading' || status === 'success'
    ? (lastMessageAt ?? 0)
    : Math.max(lastMessageAt ?? 0, lastTakenAt ?? 0, reachedAt ?? 0)

function endedAnew(before: Upgrade, after: Upgrade): boolean {
  if (!isEnded(after.status)) return false
  return (
    before.status !== after.status ||
    before.description !== after.description ||
    before.rolledBack !== after.rolledBack ||
    before.reportedSince !== after.reportedSince ||
    versionAfter(before) !== versionAfter(after)
  )
}
