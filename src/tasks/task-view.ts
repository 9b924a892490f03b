import { iso } from '../time.ts'
import { planRollout } from './rollout.ts'
import type { TaskCounts, TaskSpec, TaskStatus } from './task.ts'
import type { TaskContext } from './task-context.ts'
import type { DeviceListQuery, DeviceRow, HistoryEvent, TaskRun } from './task-storage.ts'
import { isEnded, type UpgradeStatus } from './upgrade.ts'

/** A task as operators see it (API.md). */
export interface TaskView {
  id: string
  productId: string
  packageIds: string[]
  module: string
  targetVersion: string
  name: string
  description: string | null
  status: TaskStatus
  pausedReason: string | null
  startAt: string
  endAt: string | null
  devices: TaskSpec['selection']
  policy: TaskSpec['policy']
  counts: TaskCounts
  createdAt: string
  finishedAt: string | null
}

export interface DeviceSummary {
  deviceId: string
  number: string
  name: string | null
  module: string
  fromVersion: string | null
  targetVersion: string
  status: UpgradeStatus
  step: number | null
  description: string | null
  /** Notices of the present attempt that went out. */
  pushes: number
  attempt: number
  rolledBack: boolean
  updatedAt: string
}

export interface DeviceView extends DeviceSummary {
  events: { at: string; kind: string; detail: string | null; status: UpgradeStatus | null }[]
  /** Why nothing happens, in plain words; null where nothing is waited for. */
  waitingFor: string | null
}

export interface DevicePage {
  items: DeviceSummary[]
  nextCursor: string | null
}

export function taskView({ spec, run }: TaskContext): TaskView {
  return {
    id: spec.id,
    productId: spec.productId,
    packageIds: [spec.package.id],
    module: spec.package.module,
    targetVersion: spec.package.version,
    name: spec.name,
    description: spec.description,
    status: run.status,
    pausedReason: run.pausedReason,
    startAt: iso(spec.startAt),
    endAt: iso(spec.endAt),
    devices: spec.selection,
    policy: spec.policy,
    counts: run.counts,
    createdAt: iso(spec.createdAt),
    finishedAt: iso(run.finishedAt),
  }
}

export function devicePage(task: TaskContext, query: DeviceListQuery): DevicePage {
  const rows = task.storage.list({ ...query, limit: query.limit + 1 })
  const items = rows.slice(0, query.limit).map((row) => summary(task, row))
  return { items, nextCursor: rows.length > query.limit ? items.at(-1)!.deviceId : null }
}

export function deviceView(task: TaskContext, deviceId: string, now: number): DeviceView | null {
  const row = task.storage.readRow(deviceId)
  if (!row) return null
  return {
    ...summary(task, row),
    events: row.events.map(eventView),
    waitingFor: waitingFor(task.spec, task.run, row, now),
  }
}

const eventView = ({ at, kind, detail, status }: HistoryEvent) => ({
  at: iso(at),
  kind,
  detail,
  status: status ?? null,
})

function summary({ spec }: TaskContext, row: DeviceRow): DeviceSummary {
  const { status, step, description, pushes, attempt, rolledBack } = row.upgrade
  return {
    deviceId: row.deviceId,
    number: row.number,
    name: row.name,
    module: spec.package.module,
    fromVersion: row.fromVersion,
    targetVersion: spec.package.version,
    status,
    step,
    description,
    pushes,
    attempt,
    rolledBack,
    updatedAt: iso(row.updatedAt),
  }
}

function waitingFor(spec: TaskSpec, run: TaskRun, { upgrade }: DeviceRow, now: number): string | null {
  if (isEnded(upgrade.status)) return null
  const { closedBecause } = planRollout(spec, run.status, now)
  if (upgrade.status !== 'upgrading' && closedBecause !== null) return closedBecause
  if (upgrade.heldBy !== null) return upgrade.heldBy
  if (upgrade.offline) return 'the device is offline: it is told when it subscribes, reports or asks'
  if (upgrade.offer !== null) return 'the notice is on its way'
  if (upgrade.owed !== 'no') return now < run.blockedUntil ? run.blockedBy : 'its notice is next to be sent'
  return upgrade.status === 'pushed' ? 'the device to begin' : "the device's next message"
}
