import { downloadTtlSeconds } from '../../common/env.ts'
import { hubStub } from '../../hub/hub.ts'
import type { NoticeFrame } from '../../protocol/bridge.ts'
import { buildCancellation, downlinkTopic, formatNoticeId } from '../../protocol/device.ts'
import { type AddressedDevice, type DueProduct, raiseNoticeIds, readDueDevices } from '../database/slots.ts'
import { changeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import type { Farewell } from '../storage/task-queues.ts'
import { LEASE_MS } from './send-notices.ts'

// A device whose upgrade was cancelled is told so, where its product says `notifyCancel` (PROTOCOL.md, 3).

const FAREWELL_PAGE_SIZE = 200
const MAX_TRIES = 5
/** No bridge, or none with credit. */
const NO_CREDIT_TRY_AGAIN_MS = 30_000
/** Nobody subscribed for it. */
const OFFLINE_TRY_AGAIN_MS = 15 * 60_000

/** Who may have a notice is to hear that it was cancelled. */
export function sayFarewell({ queues }: TaskContext, { deviceId, upgrade }: DeviceRow, now: number): void {
  if (upgrade.status === 'cancelled' && upgrade.mayHaveNotice) queues.insertFarewell(deviceId, now)
}

/**
 * Tells a page of cancelled devices. Its entry goes once the broker took the message, or where there is nothing to
 * say (any more). Answers whether there may be more.
 */
export async function farewellPage(task: TaskContext, now: () => number): Promise<boolean> {
  const { env, spec, queues } = task
  const due = queues.readFarewells(now(), FAREWELL_PAGE_SIZE)
  if (due.length === 0) return false
  const { product, devices } = await readDueDevices(
    env.DB,
    spec,
    due.map(({ deviceId }) => deviceId),
  )
  const farewells = new Map(due.map((farewell) => [farewell.deviceId, farewell]))
  const told = devices.filter((device) => isToBeTold(task, product, device, farewells.get(device.id)!))
  for (const { id } of devices) if (!told.some((device) => device.id === id)) queues.deleteFarewell(id)
  if (product === null || told.length === 0) return true
  const hub = hubStub(env, product.hub)
  const above = Math.max(...told.map((device) => device.lastNoticeId))
  const { credit, firstNoticeId } = await hub.prepare(told.length, above, spec.id)
  for (const { id } of told.slice(credit)) queues.waitWithFarewell(id, now() + NO_CREDIT_TRY_AGAIN_MS)
  const notices = told.slice(0, credit).map((device, index) => {
    const again = farewells.get(device.id)!.noticeId
    return {
      device,
      deviceId: device.id,
      noticeId: again === device.lastNoticeId ? again : firstNoticeId + index,
    }
  })
  if (notices.length === 0) return true
  await raiseNoticeIds(
    env.DB,
    spec.module,
    notices.map(({ deviceId, noticeId }) => ({ deviceId, noticeId })),
  )
  const frames = notices.flatMap(({ device, noticeId }) => offerFarewell(task, device, noticeId, now()))
  const taken = frames.length === 0 ? 0 : await hub.offer(frames, spec.id)
  for (const { notice } of frames.slice(taken)) {
    queues.postponeFarewell(notice.device, Number(notice.id), now() + NO_CREDIT_TRY_AGAIN_MS)
  }
  return true
}

function isToBeTold(
  task: TaskContext,
  product: DueProduct | null,
  { id, productId, address, slot }: AddressedDevice,
  { tries }: Farewell,
): boolean {
  if (!product?.notifyCancel || address === null || productId !== task.spec.productId) return false
  // A newer upgrade has the device: to it, the cancellation would be of that one.
  if (slot?.active && slot.taskId !== task.spec.id) return false
  return tries < MAX_TRIES && isCancelled(task, id)
}

/** It may have been retried meanwhile. */
const isCancelled = ({ storage }: TaskContext, deviceId: string) =>
  storage.readRow(deviceId)?.upgrade.status === 'cancelled'

function offerFarewell(
  task: TaskContext,
  { id, address }: AddressedDevice,
  noticeId: number,
  now: number,
): NoticeFrame[] {
  const { env, spec, queues } = task
  if (!isCancelled(task, id) || address === null) {
    queues.deleteFarewell(id)
    return []
  }
  queues.offerFarewell(id, noticeId, now + LEASE_MS)
  return [
    {
      notice: { task: spec.id, device: id, id: formatNoticeId(noticeId) },
      username: address.accessToken,
      topic: downlinkTopic(address),
      payload: JSON.stringify(buildCancellation(noticeId, spec.targetVersion, spec.module)),
      // No longer than the notice that it takes back can wait for the device.
      expiresInSeconds: spec.policy.downloadTtlSeconds ?? downloadTtlSeconds(env),
    },
  ]
}

/** What the bridge says of a message to a cancelled device. Answers the row to write, or the same one. */
export function farewellAnswered(
  task: TaskContext,
  row: DeviceRow,
  event: { type: 'sent' | 'taken' | 'offline' | 'returned'; noticeId: number },
  now: number,
): DeviceRow {
  const { queues } = task
  const { deviceId } = row
  const farewell = queues.readFarewell(deviceId)
  if (farewell?.noticeId !== event.noticeId || event.type === 'sent') return row
  if (event.type !== 'taken') {
    const wait = event.type === 'offline' ? OFFLINE_TRY_AGAIN_MS : 0
    queues.postponeFarewell(deviceId, event.noticeId, now + wait)
    return row
  }
  queues.deleteFarewell(deviceId)
  const note = { kind: 'cancellation taken', detail: formatNoticeId(event.noticeId), always: true }
  // Changes nothing but the history.
  return changeDevice(task, row, { type: 'notRetried' }, note, now)
}
