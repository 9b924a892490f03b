import { AppError } from '../../common/errors.ts'
import { inEnglish, type Reason, reason } from '../../reasons/reason.ts'
import { signatureCode } from '../../signing/policy.ts'
import { readSigningText } from '../../signing/store.ts'
import { openNextWave } from '../effects/apply-plan.ts'
import { changeDevice, changeStored, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { queueCancellation } from '../notices/cancellations.ts'
import { unsignedBecause } from '../notices/signatures.ts'
import { sendable, unblock } from '../notices/turn.ts'
import type { TaskPolicy, TaskSpec } from '../rules/task.ts'
import { openWave } from '../rules/task-run.ts'
import { isEnded } from '../rules/upgrade.ts'
import { settleDevices } from './settle.ts'

// What an operator, another task or the catalogue asks of a task. Refusals are returned, not thrown: errors lose their
// class on their way out of an object.

/** Why a call was refused: an error's code and detail. */
export interface Refusal {
  code: string
  detail: string
  /** 409 if absent. */
  status?: number
}

export const refuse = (code: string, detail: string): Refusal => ({ code, detail })

/** The result of a call to a task. */
export type Answer<T> = { value: T } | { refused: Refusal }

/** The result's value; throws a refusal. */
export function allowed<T>(answer: Answer<T>): T {
  if ('value' in answer) return answer.value
  const { status = 409, code, detail } = answer.refused
  throw new AppError(status, code, detail)
}

/** 422 if the product's devices must not run what the task has for them, as its keys are now (src/signing/README.md). */
export async function whyUnsigned(task: TaskContext): Promise<Refusal | null> {
  const signing = await readSigningText(task.env.DB, task.spec.productId)
  const fault = await unsignedBecause(task, sendable(task), signing)
  return fault && { status: 422, code: signatureCode(fault), detail: `Not possible: ${inEnglish(fault)}.` }
}

/** Null takes a rule away. */
export type TaskChange = Partial<Pick<TaskSpec, 'name' | 'description' | 'endAt'>> & {
  ratePerMinute?: number | null | undefined
  haltOn?: TaskPolicy['haltOn'] | null
  deviceTimeoutMinutes?: number | undefined
}

export function patchTask({ run, spec, storage, save }: TaskContext, change: TaskChange): void {
  const { ratePerMinute, haltOn, deviceTimeoutMinutes, ...fields } = change
  Object.assign(spec, fields)
  const { policy } = spec
  if (ratePerMinute !== undefined) policy.ratePerMinute = ratePerMinute ?? undefined
  if (haltOn !== undefined) policy.haltOn = haltOn ?? undefined
  if (deviceTimeoutMinutes !== undefined && deviceTimeoutMinutes !== policy.deviceTimeoutMinutes) {
    policy.deviceTimeoutMinutes = deviceTimeoutMinutes
    run.timeoutCursor = ''
  }
  if (change.endAt !== undefined && run.status !== 'cancelled') {
    // The old end may have been reached, with devices still to be ended: from now on the new end counts.
    run.endCursor = null
    run.ended = false
  }
  run.unwritten = 'status'
  storage.writeSpec(spec)
  save()
}

export function pauseTask(task: TaskContext): Refusal | null {
  const { run } = task
  if (run.status !== 'running' && run.status !== 'scheduled' && run.status !== 'paused') {
    return hasEnded(run.status)
  }
  // To pause a halted task changes nothing: its failures still count when it is resumed.
  if (run.status !== 'paused') pause(task, reason('paused_by_operator'))
  return null
}

function pause({ run, save }: TaskContext, why: Reason): void {
  run.status = 'paused'
  run.pausedBecause = why
  run.unwritten = 'status'
  save()
}

/** If the task had halted, the failures so far are accepted: the halt rule counts anew. */
export function resumeTask(task: TaskContext): Refusal | null {
  const { run, now, save } = task
  if (run.status === 'running' || run.status === 'scheduled') return null
  if (run.status !== 'paused') return hasEnded(run.status)
  if (sendable(task).length === 0) {
    return refuse('package.recalled', 'Every package of the task was recalled: it can only be cancelled.')
  }
  run.status = run.startedAt === null ? 'scheduled' : 'running'
  run.pausedBecause = null
  unblock(task)
  run.movedAt = now()
  run.saidStalled = false
  if (run.halted) run.halt = { epoch: run.halt.epoch + 1, settled: 0, failed: 0 }
  run.halted = false
  run.unwritten = 'status'
  save()
  return null
}

/** Opens the next wave, whatever became of the one before. */
export function nextWave(task: TaskContext): Refusal | null {
  const { run } = task
  if (run.status === 'finished' || run.status === 'cancelled') return hasEnded(run.status)
  if (run.cuts === null || openWave(run) < 0) {
    return refuse('task.no_wave', 'No wave is open yet: the task has not begun to send.')
  }
  if (!openNextWave(task)) return refuse('task.no_wave', 'All waves are open.')
  return null
}

/** A package is recalled: it is sent to no device any more, and an operator decides how the task goes on. */
export function packageRecalled(task: TaskContext, packageId: string): void {
  const { run, spec, save } = task
  const recalled = spec.packages.find(({ id }) => id === packageId)
  if (!recalled || run.recalled.includes(packageId)) return
  run.recalled.push(packageId)
  if (run.status !== 'cancelled' && run.status !== 'finished') {
    pause(task, reason('package_recalled', { packageId, version: recalled.version }))
  }
  save()
}

/** Nothing is sent after this; the devices turn Cancelled page by page in the alarm. */
export function cancelTask({ run, now, save }: TaskContext): Refusal | null {
  if (run.status === 'cancelled') return null
  if (run.status === 'finished') return hasEnded(run.status)
  run.status = 'cancelled'
  run.pausedBecause = null
  run.finishedAt = now()
  run.enrolment = null
  run.endCursor = ''
  run.ended = false
  run.unwritten = 'status'
  save()
  return null
}

export const hasEnded = (status: string) => refuse(`task.${status}`, `The task is ${status}.`)

export function cancelDevice(task: TaskContext, deviceId: string, why: Reason): Refusal | null {
  const refused = cancelInTask(task, deviceId, why)
  // Whatever became of it here: it left.
  if (why.code === 'device_deleted' || why.code === 'device_moved') {
    changeStored(task, deviceId, { type: 'left' }, { code: 'device_left' })
    task.save()
  }
  return refused
}

function cancelInTask(task: TaskContext, deviceId: string, why: Reason): Refusal | null {
  const row = task.storage.readRow(deviceId)
  if (!row) return refuse('device.not_in_task', 'The device is not in this task.')
  if (row.upgrade.status === 'cancelled') return null
  if (row.upgrade.retryAt !== null) {
    changeStored(task, deviceId, { type: 'notRetried' }, { code: 'not_retried', params: { reason: why } })
    task.save()
    return null
  }
  if (isEnded(row.upgrade.status)) {
    return refuse('device.ended', `The device's upgrade ended as ${row.upgrade.status}.`)
  }
  const note = { code: 'cancelled', params: { reason: why } } as const
  const changed = changeDevice(task, row, { type: 'cancelled', reason: why }, note)
  writeDevice(task, changed)
  queueCancellation(task, changed)
  task.save()
  return null
}

/**
 * A newer task wants these slots. With `by`, its id, Pending and Pushed devices turn Cancelled, "replaced by …"; an
 * Upgrading device is kept. A slot whose upgrade had ended here is freed in any case. Returns the devices whose slots
 * are free now.
 */
export async function yieldSlots(
  task: TaskContext,
  deviceIds: string[],
  by: string | null,
): Promise<string[]> {
  const ended: string[] = []
  const freed: string[] = []
  for (const deviceId of deviceIds) {
    const row = task.storage.readRow(deviceId)
    if (!row) freed.push(deviceId)
    else {
      const changed = by
        ? changeDevice(task, row, { type: 'replaced', by }, { code: 'replaced', params: { taskId: by } })
        : row
      if (changed !== row) writeDevice(task, changed)
      if (isEnded(changed.upgrade.status)) ended.push(deviceId)
    }
  }
  task.save()
  await settleDevices(task, ended)
  return [...freed, ...ended]
}

/** What these devices waited for has come: they are looked at at once. */
export function lookAgain(task: TaskContext, deviceIds: string[], code: 'slot_freed' | 'enabled'): void {
  const type = code === 'enabled' ? 'enabled' : 'lookAgain'
  for (const deviceId of deviceIds) changeStored(task, deviceId, { type }, { code })
}

/** A newer task waits for the same slots: this older one, which waited, ends there (src/protocol/README.md#slots). */
export function replaceDevices(task: TaskContext, deviceIds: string[], by: string): void {
  const note = { code: 'replaced', params: { taskId: by } } as const
  for (const deviceId of deviceIds) changeStored(task, deviceId, { type: 'replaced', by }, note)
  task.save()
}
