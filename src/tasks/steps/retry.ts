import { inEnglish, type Reason, type ReasonCode, reason } from '../../reasons/reason.ts'
import { type AddressedDevice, readDueDevices } from '../database/slots.ts'
import { changeStored } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { sendable } from '../notices/turn.ts'
import { isRetriable, type UpgradeStatus } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import { type Answer, hasEnded, type Refusal, refuse, whyUnsigned } from './operator-calls.ts'
import { settleDevices } from './settle.ts'

const RETRY_PAGE_SIZE = 500
/** In one call, which may make 1,000 queries: a repeat of the call goes on with the rest. */
const MAX_RETRY_PAGES = 100

export interface RetryAnswer {
  retried: number
  skipped: { code: ReasonCode; reason: string; count: number }[]
  /** There are more devices than one call looks at: the same call again goes on with the rest. */
  more?: true
}

/**
 * Failed devices, or the named one, become Pending with a new attempt; a finished task runs again. A device is skipped if
 * a newer task holds its slot or brought it to Success (src/protocol/README.md#states).
 */
export async function retryDevices(
  task: TaskContext,
  which: { deviceId: string } | { includeCancelled: boolean },
): Promise<Answer<RetryAnswer>> {
  const { storage } = task
  const refused = whyNoRetry(task) ?? (await whyUnsigned(task))
  if (refused) return { refused }
  const skipped = new Map<ReasonCode, number>()
  let retried = 0
  if ('deviceId' in which) {
    const row = storage.readRow(which.deviceId)
    if (!row) return { refused: refuse('device.not_in_task', 'The device is not in this task.') }
    if (!isRetriable(row.upgrade)) {
      return { refused: refuse('device.not_failed', `The device's upgrade is ${row.upgrade.status}.`) }
    }
    retried = await retryPage(task, [row], skipped)
  } else {
    const statuses: UpgradeStatus[] = which.includeCancelled ? ['failure', 'cancelled'] : ['failure']
    let after: string | null = task.run.retryAfter ?? ''
    for (let pages = 0; after !== null && pages < MAX_RETRY_PAGES; pages++) {
      const rows = storage.readRetriable(statuses, after, RETRY_PAGE_SIZE)
      if (rows.length > 0) retried += await retryPage(task, rows, skipped)
      after = rows.length < RETRY_PAGE_SIZE ? null : rows.at(-1)!.deviceId
    }
    task.run.retryAfter = after
    task.save()
  }
  const counted = [...skipped].map(([code, count]) => ({
    code,
    reason: inEnglish({ code, params: {} }),
    count,
  }))
  const more = 'includeCancelled' in which && task.run.retryAfter != null
  return { value: { retried, skipped: counted, ...(more && { more }) } }
}

/** Also asked after each wait: the task may have been cancelled, or its end have come, meanwhile. */
function whyNoRetry(task: TaskContext): Refusal | null {
  const { run, spec, now } = task
  if (run.leaving !== null) return refuse(`task.${run.leaving.to}`, `The task was ${run.leaving.to}.`)
  if (run.status === 'cancelled') return hasEnded('cancelled')
  if (spec.endAt !== null && now() >= spec.endAt) return refuse('task.ended', "The task's end has passed.")
  if (sendable(task).length === 0) {
    return refuse('package.recalled', 'Every package of the task was recalled: nothing can be sent again.')
  }
  return null
}

async function retryPage(
  task: TaskContext,
  rows: DeviceRow[],
  skipped: Map<ReasonCode, number>,
): Promise<number> {
  // The last attempt's outcome is written first: the device may still be busy with it.
  const unwritten = rows.filter(({ outbox }) => outbox !== null)
  await settleDevices(
    task,
    unwritten.map(({ deviceId }) => deviceId),
  )
  const { devices } = await readDueDevices(
    task.env.DB,
    task.spec,
    task.rank,
    rows.map((row) => row.deviceId),
  )
  if (whyNoRetry(task)) return 0
  let retried = 0
  for (const device of devices) {
    const skip = whyNotRetried(task, device)
    if (skip !== null) skipped.set(skip.code, (skipped.get(skip.code) ?? 0) + 1)
    else if (changeStored(task, device.id, { type: 'retried' }, { code: 'retried' })) {
      task.queues.deleteCancellation(device.id)
      retried++
    }
  }
  if (retried > 0 && task.run.status === 'finished') {
    task.run.status = 'running'
    task.run.finishedAt = null
    task.run.unwritten = 'status'
  }
  task.save()
  return retried
}

/** Why the device may have no other attempt (src/protocol/README.md#states); null if it may. */
export function whyNotRetried(
  { spec, rank }: TaskContext,
  { productId, slot }: AddressedDevice,
): Reason | null {
  if (productId !== spec.productId) return reason('device_deleted_or_moved')
  if (slot?.active && slot.rank > rank) return reason('newer_task_holds_device')
  if (slot?.succeededRank && slot.succeededRank > rank) return reason('newer_task_succeeded')
  return null
}
