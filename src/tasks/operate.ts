import { conflict } from '../errors.ts'
import { changeDevice, changeStored, writeDevice } from './change-device.ts'
import { settleRows } from './settle.ts'
import { readDueDevices } from './slot-store.ts'
import type { TaskSpec } from './task.ts'
import type { TaskContext } from './task-context.ts'
import type { DeviceRow } from './task-storage.ts'
import { isEnded, type UpgradeStatus } from './upgrade.ts'

// What an operator, another task or the catalogue asks of a task. What is refused is answered, not thrown: errors
// lose their class on their way out of an object.

/** Why a call was refused: an error's code and detail. */
export interface Refusal {
  code: string
  detail: string
}

const RETRY_PAGE_SIZE = 500

export const refuse = (code: string, detail: string): Refusal => ({ code, detail })

/** What a call to a task answers. */
export type Answer<T> = { value: T } | { refused: Refusal }

/** The answer's value; throws what was refused, as the 409 that it is. */
export function allowed<T>(answer: Answer<T>): T {
  if ('refused' in answer) throw conflict(answer.refused.code, answer.refused.detail)
  return answer.value
}

export type TaskChange = Partial<Pick<TaskSpec, 'name' | 'description' | 'endAt'>>

export function patchTask({ run, spec, storage }: TaskContext, change: TaskChange): void {
  Object.assign(spec, change)
  if (change.endAt !== undefined && run.status !== 'cancelled') {
    // The old end may have been reached, with devices still at it: the new one counts again.
    run.endCursor = null
    run.ended = false
  }
  run.unwritten = 'status'
  storage.writeSpec(spec)
  storage.writeRun(run)
}

export function pauseTask({ run, storage }: TaskContext): Refusal | null {
  if (run.status === 'paused') return null
  if (run.status !== 'running' && run.status !== 'scheduled') return hasEnded(run.status)
  run.status = 'paused'
  run.pausedReason = 'paused by an operator'
  run.unwritten = 'status'
  storage.writeRun(run)
  return null
}

export function resumeTask({ run, storage }: TaskContext): Refusal | null {
  if (run.status === 'running' || run.status === 'scheduled') return null
  if (run.status !== 'paused') return hasEnded(run.status)
  run.status = run.startedAt === null ? 'scheduled' : 'running'
  run.pausedReason = null
  run.blockedUntil = 0
  run.unwritten = 'status'
  storage.writeRun(run)
  return null
}

/** From the answer on nothing more is sent; the devices turn Cancelled page by page in the alarm. */
export function cancelTask({ run, storage }: TaskContext, now: number): Refusal | null {
  if (run.status === 'cancelled') return null
  if (run.status === 'finished') return hasEnded(run.status)
  run.status = 'cancelled'
  run.pausedReason = null
  run.finishedAt = now
  run.enrolment = null
  run.endCursor = ''
  run.ended = false
  run.unwritten = 'status'
  storage.writeRun(run)
  return null
}

const hasEnded = (status: string) => refuse(`task.${status}`, `The task is ${status}.`)

export function cancelDevice(
  task: TaskContext,
  deviceId: string,
  reason: string,
  now: number,
): Refusal | null {
  const row = task.storage.readRow(deviceId)
  if (!row) return refuse('device.not_in_task', 'The device is not in this task.')
  if (row.upgrade.status === 'cancelled') return null
  if (isEnded(row.upgrade.status)) {
    return refuse('device.ended', `The device's upgrade ended as ${row.upgrade.status}.`)
  }
  changeStored(task, deviceId, { type: 'cancelled', reason }, { kind: 'cancelled', detail: reason }, now)
  task.storage.writeRun(task.run)
  return null
}

export interface RetryAnswer {
  retried: number
  skipped: { reason: string; count: number }[]
}

/**
 * Failed devices, or those named, become Pending with a new attempt; a finished task runs again. Skipped is where a
 * newer task holds the slot or brought the device to Success (PROTOCOL.md, 4).
 */
export async function retryDevices(
  task: TaskContext,
  which: { deviceId: string } | { includeCancelled: boolean },
  now: () => number,
): Promise<Answer<RetryAnswer>> {
  const { run, spec, storage } = task
  if (run.status === 'cancelled') return { refused: hasEnded('cancelled') }
  if (spec.endAt !== null && now() >= spec.endAt) {
    return { refused: refuse('task.ended', "The task's end has passed.") }
  }
  const skipped = new Map<string, number>()
  let retried = 0
  if ('deviceId' in which) {
    const row = storage.readRow(which.deviceId)
    if (!row) return { refused: refuse('device.not_in_task', 'The device is not in this task.') }
    if (row.upgrade.status !== 'failure' && row.upgrade.status !== 'cancelled') {
      return { refused: refuse('device.not_failed', `The device's upgrade is ${row.upgrade.status}.`) }
    }
    retried = await retryPage(task, [row], skipped, now)
  } else {
    const statuses: UpgradeStatus[] = which.includeCancelled ? ['failure', 'cancelled'] : ['failure']
    let after = ''
    for (;;) {
      const rows = storage.readStatuses(statuses, after, RETRY_PAGE_SIZE)
      if (rows.length === 0) break
      retried += await retryPage(task, rows, skipped, now)
      after = rows.at(-1)!.deviceId
    }
  }
  return { value: { retried, skipped: [...skipped].map(([reason, count]) => ({ reason, count })) } }
}

async function retryPage(
  task: TaskContext,
  rows: DeviceRow[],
  skipped: Map<string, number>,
  now: () => number,
): Promise<number> {
  const { devices } = await readDueDevices(
    task.env.DB,
    task.spec,
    rows.map((row) => row.deviceId),
  )
  let retried = 0
  for (const { id, productId, slot } of devices) {
    const skip =
      productId !== task.spec.productId
        ? 'the device was deleted or moved'
        : slot?.active && slot.rank > task.rank
          ? 'a newer task holds the device'
          : slot?.succeededRank && slot.succeededRank > task.rank
            ? 'a newer task brought the device to Success'
            : null
    if (skip !== null) skipped.set(skip, (skipped.get(skip) ?? 0) + 1)
    else if (changeStored(task, id, { type: 'retried' }, { kind: 'retried' }, now())) retried++
  }
  if (retried > 0 && task.run.status === 'finished') {
    task.run.status = 'running'
    task.run.finishedAt = null
    task.run.unwritten = 'status'
  }
  task.storage.writeRun(task.run)
  return retried
}

/**
 * A newer task wants these slots. With `by`, Pending and Pushed devices turn Cancelled, "replaced by …"; an
 * Upgrading one is kept. What had ended here is freed in any case. Answers the devices whose slots are free now.
 */
export async function yieldSlots(
  task: TaskContext,
  deviceIds: string[],
  by: string | null,
  now: () => number,
): Promise<string[]> {
  const ended: DeviceRow[] = []
  const freed: string[] = []
  for (const deviceId of deviceIds) {
    const row = task.storage.readRow(deviceId)
    if (!row) freed.push(deviceId)
    else {
      const changed = by
        ? changeDevice(task, row, { type: 'replaced', by }, { kind: 'replaced', detail: by }, now())
        : row
      if (changed !== row) writeDevice(task, changed)
      if (isEnded(changed.upgrade.status)) ended.push(changed)
    }
  }
  task.storage.writeRun(task.run)
  await settleRows(task, ended)
  return [...freed, ...ended.map((row) => row.deviceId)]
}

/** A slot that these devices waited for is free, or the product was unfrozen: look at once. */
export function lookAgain(task: TaskContext, deviceIds: string[], now: number): void {
  for (const deviceId of deviceIds) {
    changeStored(task, deviceId, { type: 'lookAgain' }, { kind: 'slot freed' }, now)
  }
}

/** A newer task waits for the same slot: the older one that waited ends (PROTOCOL.md, 5). */
export function replaceDevices(task: TaskContext, deviceIds: string[], by: string, now: number): void {
  for (const deviceId of deviceIds) {
    changeStored(task, deviceId, { type: 'replaced', by }, { kind: 'replaced', detail: by }, now)
  }
  task.storage.writeRun(task.run)
}
