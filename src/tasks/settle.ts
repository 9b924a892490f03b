import { type Ended, settleUpgrades } from './slot-store.ts'
import type { TaskContext } from './task-context.ts'
import type { DeviceRow } from './task-storage.ts'
import { taskStub } from './task-stub.ts'
import { isEnded, type Upgrade } from './upgrade.ts'

const SETTLE_PAGE_SIZE = 500

/** Writes a page of outcomes to D1 and frees their slots. Answers whether there may be more. */
export async function settlePage(task: TaskContext): Promise<boolean> {
  const rows = task.storage.readOutbox(SETTLE_PAGE_SIZE)
  await settleRows(task, rows)
  return rows.length > 0
}

/**
 * Frees the slots of devices that ended here, writes their outcomes, and tells those who wait. Cut off anywhere it
 * is done again: what was written is not written twice, and one who waits and was not told looks by itself.
 */
export async function settleRows(task: TaskContext, rows: DeviceRow[]): Promise<void> {
  if (rows.length === 0) return
  const ended = rows.flatMap((row) => toEnded(row) ?? [])
  const freed = ended.length === 0 ? [] : await settleUpgrades(task.env.DB, task.spec, task.rank, ended)
  for (const row of rows) {
    const present = task.storage.readRow(row.deviceId)
    // What changed meanwhile is settled on its own.
    if (present && isSame(present.upgrade, row.upgrade)) {
      task.storage.clearOutbox(row.deviceId)
    }
  }
  const byTask = Map.groupBy(freed, ({ taskId }) => taskId)
  await Promise.allSettled(
    [...byTask].map(([taskId, group]) =>
      taskStub(task.env, taskId).slotsFreed(group.map(({ deviceId }) => deviceId)),
    ),
  )
}

const isSame = (a: Upgrade, b: Upgrade) =>
  a.status === b.status &&
  a.attempt === b.attempt &&
  a.description === b.description &&
  a.rolledBack === b.rolledBack

/** Undefined for a device that goes on: it was retried before its outcome was written. */
function toEnded(row: DeviceRow): Ended | undefined {
  const { status, description, rolledBack, attempt, mayHaveNotice, cause } = row.upgrade
  if (!isEnded(status)) return undefined
  return {
    deviceId: row.deviceId,
    status: status as Ended['status'],
    fromVersion: row.fromVersion,
    description,
    rolledBack,
    attempt,
    finishedAt: row.updatedAt,
    doubtful: mayHaveNotice && (status === 'cancelled' || cause === 'timed_out'),
  }
}
