import { iso } from '../../common/time.ts'
import {
  type EventCode,
  eventInEnglish,
  inEnglish,
  type Params,
  type Reason,
  reason,
} from '../../reasons/reason.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { reachedTotals, waitingBehind } from '../rules/counts.ts'
import { planRollout } from '../rules/rollout.ts'
import type { TaskCounts, TaskSpec, TaskStatus } from '../rules/task.ts'
import { openWave, type TaskRun } from '../rules/task-run.ts'
import { codeOf, type FailureCause, type UpgradeStatus } from '../rules/upgrade.ts'
import { waveWaits } from '../rules/wave-waits.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import type { HistoryEvent } from '../storage/history.ts'
import type { FailureCount } from '../storage/task-journal.ts'
import type { DeviceListQuery } from '../storage/task-storage.ts'
import { waitingFor } from './waiting-for.ts'

/** A task as lists show it. */
export interface TaskSummary {
  id: string
  productId: string
  packageIds: string[]
  module: string
  targetVersion: string
  name: string
  description: string | null
  status: TaskStatus
  /** In English; `pausedBecause` is the same as data. */
  pausedReason: string | null
  pausedBecause: Reason | null
  startAt: string
  endAt: string | null
  devices: TaskSpec['selection']
  policy: TaskSpec['policy']
  counts: TaskCounts
  createdAt: string
  finishedAt: string | null
}

/** Devices that were told while connected, or seen since; waves and the halt rule count only these. */
interface Reached {
  reached: number
  /** Done well: a Success that was not rolled back, and seen since. */
  succeeded: number
  /** A Failure, gone, or rolled back. */
  failed: number
  /** They said 100 % and were not seen since. */
  unseen: number
  /** Of the failed: silent and not connected. */
  gone: number
}

export interface WaveView extends Reached {
  /** Cumulative. */
  percent: number
  devices: number
  /** So many are to be reached before the next wave opens. */
  size: number
  openedAt: string | null
}

/** A task as operators see it. */
export interface TaskView extends TaskSummary, Reached {
  waves: WaveView[]
  rolledBack: number
  failures: (FailureCount & { code: number | null })[]
  /** Why nothing is sent now; null while sending, or if nothing is left. `waiting` is the same as data. */
  waitingFor: string | null
  waiting: Reason | null
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
  /** What `description` says, as data; null if it is the device's own words. */
  because: Reason | null
  /** Of a Failure: the `step` by which the device said so; null for what the server found. */
  code: number | null
  cause: FailureCause | null
  /** Notices of the present attempt that went out. */
  pushes: number
  attempt: number
  rolledBack: boolean
  updatedAt: string
}

export interface DeviceView extends DeviceSummary {
  events: EventView[]
  /** Why nothing happens, in English; null if nothing is waited for. `waiting` is the same as data. */
  waitingFor: string | null
  waiting: Reason | null
}

/** An event of a device's history: `kind` and `detail` in English, `code` and `params` as data. */
export interface EventView {
  at: string
  code: EventCode
  params: Params
  kind: string
  detail: string | null
  status: UpgradeStatus | null
}

export interface DevicePage {
  items: DeviceSummary[]
  nextCursor: string | null
}

export function taskView({ spec, run, journal, now }: TaskContext): TaskView {
  const isOver = run.status === 'finished' || run.status === 'cancelled'
  const { closedBecause } = planRollout(spec, run, now())
  const isEmpty = run.status === 'finished' && run.counts.total === 0
  const next = openWave(run) + 1
  const wave = next > 0 && waitingBehind(run) > 0 ? waveWaits({ spec, run, now }, next) : null
  const blocked = now() < run.blockedUntil ? run.blockedBy : null
  const open = isOver ? null : (closedBecause ?? blocked ?? wave)
  const waiting = isEmpty ? reason('no_devices_found') : open
  return {
    id: spec.id,
    productId: spec.productId,
    packageIds: spec.packages.map(({ id }) => id),
    module: spec.module,
    targetVersion: spec.targetVersion,
    name: spec.name,
    description: spec.description,
    status: run.status,
    pausedReason: run.pausedBecause && inEnglish(run.pausedBecause),
    pausedBecause: run.pausedBecause,
    startAt: iso(spec.startAt),
    endAt: iso(spec.endAt),
    devices: spec.selection,
    policy: spec.policy,
    counts: run.counts,
    createdAt: iso(spec.createdAt),
    finishedAt: iso(run.finishedAt),
    ...reachedTotals(run),
    waves: waveViews(spec, run),
    rolledBack: run.rolledBack,
    failures: journal.readFailures().map((failure) => ({ ...failure, code: codeOf(failure.cause) })),
    waitingFor: waiting && inEnglish(waiting),
    waiting,
  }
}

/** None for a task without waves. */
const waveViews = (spec: TaskSpec, run: TaskRun): WaveView[] =>
  (spec.policy.waves ?? []).map(({ percent }, index) => {
    const { devices, size, openedAt, reached, succeeded, failed, unseen, gone } = run.waves[index]!
    return { percent, devices, size, openedAt: iso(openedAt), reached, succeeded, failed, unseen, gone }
  })

export function devicePage(task: TaskContext, query: DeviceListQuery): DevicePage {
  const rows = task.storage.list({ ...query, limit: query.limit + 1 })
  const items = rows.slice(0, query.limit).map((row) => summary(task, row))
  return { items, nextCursor: rows.length > query.limit ? items.at(-1)!.deviceId : null }
}

export function deviceView(task: TaskContext, deviceId: string): DeviceView | null {
  const row = task.storage.readRow(deviceId)
  if (!row) return null
  const waiting = waitingFor(task, row)
  return {
    ...summary(task, row),
    events: row.events.map(eventView),
    waitingFor: waiting && inEnglish(waiting),
    waiting,
  }
}

const eventView = ({ at, code, params, status }: HistoryEvent): EventView => ({
  at: iso(at),
  code,
  params,
  ...eventInEnglish(code, params),
  status: status ?? null,
})

function summary({ spec }: TaskContext, row: DeviceRow): DeviceSummary {
  const { status, step, description, reason: because, cause, pushes, attempt, rolledBack } = row.upgrade
  return {
    deviceId: row.deviceId,
    number: row.number,
    name: row.name,
    module: spec.module,
    fromVersion: row.fromVersion,
    targetVersion: spec.targetVersion,
    status,
    step,
    description,
    because,
    code: codeOf(cause),
    cause,
    pushes,
    attempt,
    rolledBack,
    updatedAt: iso(row.updatedAt),
  }
}
