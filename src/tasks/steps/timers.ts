import { hubStub } from '../../hub/hub.ts'
import { reason } from '../../reasons/reason.ts'
import { type AddressedDevice, readDueDevices } from '../database/slots.ts'
import {
  changeDevice,
  isSilenceWatched,
  lastHeardAt,
  stillThereAt,
  timeoutMs,
  waveOf,
  writeDevice,
} from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { noteUnconfirmed } from '../notices/turn.ts'
import { areLinksStopped, stoppedMs } from '../rules/stops.ts'
import type { Upgrade } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import { whyNotRetried } from './retry.ts'

const TIMER_PAGE_SIZE = 500
/** A silence that the bridge has not yet vouched for is looked at again after this. */
const UNVOUCHED_LOOK_AGAIN_MS = 10_000
const MAX_LOOK_AGAIN_MS = 15 * 60_000
/** A connected device may take its time with its notice; if it disconnects, the bridge says so. */
const CONNECTED_LOOK_AGAIN_MS = 6 * 3_600_000

/** What the task's own rows do not say. */
interface Outside {
  handedOver: { upTo: number; steadySince: number } | null
  devices: Map<string, AddressedDevice>
}

/** Looks at pages of devices whose lease, silence or wait ran out. Returns whether there may be more. */
export async function timersPage(task: TaskContext): Promise<boolean> {
  const { storage, now, save } = task
  const hadOffers = lookAtOffers(task)
  const pages = storage.pages.readTimers(now(), TIMER_PAGE_SIZE)
  if (pages.length === 0) return hadOffers
  const rows = pages.flatMap(({ at, ids }) => storage.readRowsOf(ids).filter(({ timerAt }) => timerAt === at))
  const outside = await lookOutside(task, rows)
  for (const page of pages) {
    const later: string[] = []
    for (const deviceId of page.ids) {
      const row = storage.readRow(deviceId)
      if (row?.timerAt === page.at && !lookAt(task, row, outside)) later.push(deviceId)
    }
    storage.pages.forgetTimer(page, { ids: later, ringsAt: now() + lookAgainMs(now() - page.at) })
  }
  save()
  return true
}

/** The longer it lasts that nobody can vouch for a silence, the less often it is looked at. */
const lookAgainMs = (waitedMs: number) =>
  Math.min(Math.max(UNVOUCHED_LOOK_AGAIN_MS, Math.floor(waitedMs / 10)), MAX_LOOK_AGAIN_MS)

const NOT_CONFIRMED = { code: 'notice_not_confirmed' } as const

/** First notices that no bridge confirmed. */
function lookAtOffers(task: TaskContext): boolean {
  const rows = task.storage.offered.expired(task.now())
  for (const row of rows) writeDevice(task, changeDevice(task, row, { type: 'leaseExpired' }, NOT_CONFIRMED))
  if (rows.length > 0) noteUnconfirmed(task)
  task.save()
  return rows.length > 0
}

async function lookOutside(task: TaskContext, rows: DeviceRow[]): Promise<Outside> {
  const needsVouching = rows.some(({ upgrade }) => isSilenceWatched(upgrade) && upgrade.viaBridge)
  const needed = rows.filter(({ upgrade }) => upgrade.retryAt !== null || maySayMuch(task, upgrade))
  if (!needsVouching && needed.length === 0) return { handedOver: null, devices: new Map() }
  const { run } = task
  const { product, devices } = await readDueDevices(
    task.env.DB,
    task.spec,
    task.rank,
    needed.map(({ deviceId }) => deviceId),
  )
  if (product && !product.frozen) run.frozen = false
  return {
    handedOver: needsVouching && product ? await hubStub(task.env, product.hub).handedOver() : null,
    devices: new Map(devices.map((device) => [device.id, device])),
  }
}

/** Is the device's silence watched, and long enough for its device to be looked up? */
const maySayMuch = (task: TaskContext, upgrade: Upgrade) =>
  isSilenceWatched(upgrade) &&
  (upgrade.status !== 'upgrading' || lastHeardAt(upgrade) + timeoutMs(task) <= task.now())

/** Returns false if the bridge has not yet vouched for its silence: nothing is written, and it is looked at again. */
function lookAt(task: TaskContext, row: DeviceRow, outside: Outside): boolean {
  const now = task.now()
  let looked = row
  const { offer, owed } = row.upgrade
  if (offer && owed === 'no' && offer.leaseUntil <= now) {
    looked = changeDevice(task, looked, { type: 'leaseExpired' }, NOT_CONFIRMED)
    noteUnconfirmed(task)
  }
  if (looked.upgrade.retryAt !== null && looked.upgrade.retryAt <= now) {
    looked = retryAutomatically(task, looked, outside)
  }
  let lookAgainAt = 0
  if (isSilenceWatched(looked.upgrade)) {
    const listened = judgeSilence(task, looked, outside)
    if (listened === 'unvouched' && looked === row) return false
    if (listened === 'unvouched') lookAgainAt = now + UNVOUCHED_LOOK_AGAIN_MS
    else [looked, lookAgainAt] = listened
  }
  // The timer that rang is used up.
  writeDevice(task, { ...looked, timerAt: null }, lookAgainAt)
  return true
}

/** If it was not looked up, or its last attempt is not yet in D1, it is looked at again at once. */
function retryAutomatically(task: TaskContext, row: DeviceRow, { devices }: Outside): DeviceRow {
  const device = devices.get(row.deviceId)
  if (!device || row.outbox !== null) return row
  const why = whyNotRetried(task, device)
  return why === null
    ? changeDevice(task, row, { type: 'retriedItself' }, { code: 'retried_automatically' })
    : changeDevice(task, row, { type: 'notRetried' }, { code: 'not_retried', params: { reason: why } })
}

/**
 * An outage fails no device: silences are counted from the bridge's return, and only as far as it has handed over
 * (src/protocol/README.md#order-and-outages). Returns the row, and when it is to be looked at again (ms since 1970).
 */
function judgeSilence(
  task: TaskContext,
  row: DeviceRow,
  { handedOver, devices }: Outside,
): [DeviceRow, number] | 'unvouched' {
  const now = task.now()
  const { viaBridge, status, unseen } = row.upgrade
  const device = devices.get(row.deviceId)
  if (unseen && device) {
    const found = lookAfter100(task, row, device, viaBridge ? (handedOver?.upTo ?? 0) : now)
    if (found) return [found, 0]
  }
  const from = Math.max(lastHeardAt(row.upgrade), viaBridge ? (handedOver?.steadySince ?? 0) : 0)
  // After 100 % it needs no link any more.
  const silentAt = from + timeoutMs(task) + (unseen ? 0 : stoppedMs(task.run, from, now))
  if (device?.enabled === false) return silentAt > now ? [row, silentAt] : lookAtDisabled(task, row)
  // Nobody lets a device download whose links are stopped.
  if (!unseen && areLinksStopped(task.run)) return 'unvouched'
  if (silentAt > now) return [row, silentAt]
  if (viaBridge && silentAt > (handedOver?.upTo ?? 0)) return 'unvouched'
  if (status === 'upgrading') {
    return [changeDevice(task, row, { type: 'silent' }, { code: 'timed_out' }), 0]
  }
  if (!device) return 'unvouched'
  if (device.online === null) {
    const event = { type: unseen ? 'seen' : 'unheard' } as const
    const changed = changeDevice(task, row, event, { code: 'presence_unknown' })
    // Its wave has lacked it since its notice went out.
    const wave = task.run.waves[waveOf(task, row)]
    if (wave && changed.upgrade.reachedAt === null) wave.lackingSince ??= row.upgrade.lastTakenAt
    return [changed, 0]
  }
  if (device.online) {
    if (unseen) return [row, stillThereAt(row.upgrade)]
    const reminded = changeDevice(task, row, { type: 'reminded' }, { code: 'reminded' })
    return [reminded, now + Math.max(timeoutMs(task), CONNECTED_LOOK_AGAIN_MS)]
  }
  return [changeDevice(task, row, { type: 'gone' }, { code: unseen ? 'gone_after_100' : 'gone' }), 0]
}

/** Nobody listens to a disabled device: its state stays, and it is no evidence for a wave. */
function lookAtDisabled(task: TaskContext, row: DeviceRow): [DeviceRow, number] | 'unvouched' {
  const note = { code: 'waits', params: { reason: reason('device_disabled') } } as const
  const changed = changeDevice(task, row, { type: 'unheard' }, note)
  return changed === row ? 'unvouched' : [changed, task.now() + MAX_LOOK_AGAIN_MS]
}

/**
 * A device that said 100 % is looked at after a while: one that is still connected has outlived it, and one that was deleted
 * or moved says nothing any more. `upTo`: how far its bridge has handed over. Returns null if neither is so.
 */
function lookAfter100(task: TaskContext, row: DeviceRow, device: AddressedDevice, upTo: number) {
  if (device.productId !== task.spec.productId) {
    return changeDevice(task, row, { type: 'left' }, { code: 'device_left' })
  }
  const isThere = device.online === true && Math.min(upTo, task.now()) >= stillThereAt(row.upgrade)
  return isThere ? changeDevice(task, row, { type: 'seen' }, { code: 'still_connected' }) : null
}
