import { hubStub } from '../hub/hub.ts'
import { changeDevice, timeoutMs, writeDevice } from './change-device.ts'
import { readDueDevices } from './slot-store.ts'
import type { TaskContext } from './task-context.ts'
import type { DeviceRow } from './task-storage.ts'

const TIMER_PAGE_SIZE = 500
/** How soon a silence is looked at again that the bridge has not yet vouched for. */
const UNVOUCHED_LOOK_AGAIN_MS = 10_000

/** Looks at a page of devices whose lease or silence ran out. Answers whether there may be more. */
export async function timersPage(task: TaskContext, now: () => number): Promise<boolean> {
  const rows = task.storage.readTimers(now(), TIMER_PAGE_SIZE)
  if (rows.length === 0) return false
  const handedOver = rows.some((row) => needsVouching(row)) ? await readHandedOver(task) : null
  for (const { deviceId } of rows) {
    const row = task.storage.readRow(deviceId)
    if (row) lookAt(task, row, handedOver, now())
  }
  task.storage.writeRun(task.run)
  return true
}

/** A device that came only over HTTPS needs no bridge to vouch for its silence. */
const needsVouching = (row: DeviceRow) => row.upgrade.status === 'upgrading' && row.upgrade.viaBridge

async function readHandedOver(task: TaskContext) {
  const { product } = await readDueDevices(task.env.DB, task.spec, [])
  return product && hubStub(task.env, product.hub).handedOver()
}

function lookAt(
  task: TaskContext,
  row: DeviceRow,
  handedOver: { upTo: number; steadySince: number } | null,
  now: number,
): void {
  let looked = row
  const { offer, owed } = row.upgrade
  if (offer && owed === 'no' && offer.leaseUntil <= now) {
    looked = changeDevice(task, looked, { type: 'leaseExpired' }, { kind: 'notice not confirmed' }, now)
  }
  let lookAgainAt = 0
  if (looked.upgrade.status === 'upgrading') {
    const { lastMessageAt, viaBridge } = looked.upgrade
    // An outage fails no device: silences are counted from the bridge's return, and only as far as it has
    // handed over (PROTOCOL.md, 4).
    const from = Math.max(lastMessageAt ?? 0, viaBridge ? (handedOver?.steadySince ?? 0) : 0)
    const silentAt = from + timeoutMs(task)
    const heardUpTo = viaBridge ? (handedOver?.upTo ?? 0) : now
    if (silentAt <= now && silentAt <= heardUpTo) {
      looked = changeDevice(task, looked, { type: 'silent' }, { kind: 'timed out' }, now)
    } else lookAgainAt = silentAt <= now ? now + UNVOUCHED_LOOK_AGAIN_MS : silentAt
  }
  // The timer that rang is spent.
  writeDevice(task, { ...looked, timerAt: null }, lookAgainAt)
}
