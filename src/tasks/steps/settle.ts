import { partsOf } from '../../db/parts.ts'
import { type Ended, settleUpgrades } from '../database/slots.ts'
import { slotPeer } from '../effects/other-tasks.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isEnded, versionAfter } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'

const SETTLE_PAGE_SIZE = 500

/** Writes pages of outcomes to D1 and frees their slots. Returns whether there may be more. */
export async function settlePage(task: TaskContext): Promise<boolean> {
  const { storage } = task
  const pages = storage.pages.readEnded(SETTLE_PAGE_SIZE)
  const [upTo] = pages.slice(-1)
  if (!upTo) return false
  // A device that ended again since then is in a later page.
  const rows = pages.flatMap(({ page, ids }) =>
    storage.readRowsOf(ids).filter(({ outbox }) => outbox === page),
  )
  await settle(task, rows, () => storage.pages.forgetEnded(upTo.page))
  return true
}

/** The same for these devices, before their page's turn. */
export async function settleDevices(task: TaskContext, deviceIds: string[]): Promise<void> {
  const rows = task.storage.readRowsOf(deviceIds)
  await settle(task, rows, () => {
    for (const row of rows) if (row.outbox !== null) task.storage.clearOutbox(row)
  })
}

/**
 * Frees the slots of devices that ended here, writes their outcomes, and tells the tasks that wait. If it is cut off it is
 * done again: nothing is written twice, and a waiting task that was not told looks by itself.
 */
async function settle(task: TaskContext, rows: DeviceRow[], written: () => void): Promise<void> {
  const ended = rows.flatMap((row) => toEnded(row) ?? [])
  const freed: Awaited<ReturnType<typeof settleUpgrades>> = []
  for (const part of partsOf(ended)) {
    freed.push(...(await settleUpgrades(task.env.DB, task.spec, task.rank, part)))
  }
  written()
  const byTask = Map.groupBy(freed, ({ taskId }) => taskId)
  await Promise.allSettled(
    [...byTask].map(([taskId, group]) =>
      slotPeer(task.env, taskId).slotsFreed(group.map(({ deviceId }) => deviceId)),
    ),
  )
}

/** Undefined for a device that was retried before its outcome was written. */
function toEnded(row: DeviceRow): Ended | undefined {
  const { status, description, reason, rolledBack, attempt, mayHaveNotice, cause } = row.upgrade
  if (!isEnded(status)) return undefined
  return {
    deviceId: row.deviceId,
    status: status as Ended['status'],
    fromVersion: row.fromVersion,
    description,
    because: reason,
    rolledBack,
    attempt,
    finishedAt: row.updatedAt,
    after: versionAfter(row.upgrade),
    isDoubtful: mayHaveNotice && (status === 'cancelled' || cause === 'timed_out'),
  }
}
