import { downloadTtlSeconds } from '../../common/env.ts'
import { hubStub } from '../../hub/hub.ts'
import type { NoticeFrame } from '../../protocol/bridge.ts'
import { buildCancellation, downlinkTopic, formatNoticeId } from '../../protocol/device.ts'
import { type AddressedDevice, type DueProduct, raiseNoticeIds, readDueDevices } from '../database/slots.ts'
import { changeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import type { QueuedCancellation } from '../storage/task-queues.ts'
import { LEASE_MS } from './prepare-notices.ts'

// A device whose upgrade was cancelled is told so if its product says `notifyCancel` (src/protocol/README.md#messages).

const PAGE_SIZE = 200
const MAX_TRIES = 5
/** No bridge, or none with credit. */
const NO_CREDIT_TRY_AGAIN_MS = 30_000
/** Nobody subscribes for the device. */
const OFFLINE_TRY_AGAIN_MS = 15 * 60_000

/** Queues the message if the upgrade was cancelled after a notice may have reached the device. */
export function queueCancellation({ queues, now }: TaskContext, { deviceId, upgrade }: DeviceRow): void {
  if (upgrade.status === 'cancelled' && upgrade.mayHaveNotice) queues.insertCancellation(deviceId, now())
}

/**
 * Tells a page of devices. An entry is deleted once the broker took the message, or if there is nothing to say any
 * more. Returns whether there may be more.
 */
export async function cancellationsPage(task: TaskContext): Promise<boolean> {
  const { env, spec, queues, now } = task
  const due = queues.readCancellations(now(), PAGE_SIZE)
  if (due.length === 0) return false
  const { product, devices } = await readDueDevices(
    env.DB,
    spec,
    task.rank,
    due.map(({ deviceId }) => deviceId),
  )
  const queued = new Map(due.map((cancellation) => [cancellation.deviceId, cancellation]))
  const told = devices.filter((device) => isToBeTold(task, product, device, queued.get(device.id)!))
  for (const { id } of devices) if (!told.some((device) => device.id === id)) queues.deleteCancellation(id)
  if (product === null || told.length === 0) return true
  const hub = hubStub(env, product.hub)
  const above = Math.max(...told.map((device) => device.lastNoticeId))
  const { credit, firstNoticeId } = await hub.prepare(told.length, above, spec.id)
  for (const { id } of told.slice(credit)) queues.waitWithCancellation(id, now() + NO_CREDIT_TRY_AGAIN_MS)
  const messages = told.slice(0, credit).map((device, index) => {
    const again = queued.get(device.id)!.noticeId
    return {
      device,
      deviceId: device.id,
      noticeId: again === device.lastNoticeId ? again : firstNoticeId + index,
    }
  })
  if (messages.length === 0) return true
  await raiseNoticeIds(
    env.DB,
    spec.module,
    messages.map(({ deviceId, noticeId }) => ({ deviceId, noticeId })),
  )
  const frames = messages.flatMap(({ device, noticeId }) =>
    offerCancellation(task, product, device, noticeId),
  )
  const taken = frames.length === 0 ? 0 : await hub.offer(frames, spec.id)
  for (const { notice } of frames.slice(taken)) {
    queues.postponeCancellation(notice.device, Number(notice.id), now() + NO_CREDIT_TRY_AGAIN_MS)
  }
  return true
}

function isToBeTold(
  task: TaskContext,
  product: DueProduct | null,
  { id, productId, address, slot }: AddressedDevice,
  { tries }: QueuedCancellation,
): boolean {
  if (!product?.notifyCancel || address === null || productId !== task.spec.productId) return false
  // A newer upgrade has the device, which would take the cancellation for that one's.
  if (slot?.active && slot.taskId !== task.spec.id) return false
  return tries < MAX_TRIES && isCancelled(task, id)
}

/** It may have been retried meanwhile. */
const isCancelled = ({ storage }: TaskContext, deviceId: string) =>
  storage.readRow(deviceId)?.upgrade.status === 'cancelled'

function offerCancellation(
  task: TaskContext,
  { defaultModuleParam }: DueProduct,
  { id, address }: AddressedDevice,
  noticeId: number,
): NoticeFrame[] {
  const { env, spec, queues, now } = task
  if (!isCancelled(task, id) || address === null) {
    queues.deleteCancellation(id)
    return []
  }
  queues.offerCancellation(id, noticeId, now() + LEASE_MS)
  return [
    {
      notice: { task: spec.id, device: id, id: formatNoticeId(noticeId) },
      username: address.accessToken,
      topic: downlinkTopic(address),
      payload: JSON.stringify(
        buildCancellation(noticeId, spec.targetVersion, spec.module, defaultModuleParam),
      ),
      // No longer than the notice that it takes back can wait for the device.
      expiresInSeconds: spec.policy.downloadTtlSeconds ?? downloadTtlSeconds(env),
    },
  ]
}

/**
 * The bridge says what became of a message to a cancelled device. Returns the row to write, or the same row; undefined if
 * it speaks of another notice.
 */
export function cancellationAnswered(
  task: TaskContext,
  row: DeviceRow,
  event: { type: 'sent' | 'taken' | 'offline' | 'returned'; noticeId: number },
): DeviceRow | undefined {
  const { queues, now } = task
  const { deviceId } = row
  const queued = row.upgrade.status === 'cancelled' ? queues.readCancellation(deviceId) : undefined
  if (queued?.noticeId !== event.noticeId) return undefined
  if (event.type === 'sent') return row
  if (event.type !== 'taken') {
    const wait = event.type === 'offline' ? OFFLINE_TRY_AGAIN_MS : 0
    queues.postponeCancellation(deviceId, event.noticeId, now() + wait)
    return row
  }
  queues.deleteCancellation(deviceId)
  const params = { noticeId: formatNoticeId(event.noticeId) }
  // The event changes nothing but the history.
  return changeDevice(task, row, { type: 'notRetried' }, { code: 'cancellation_taken', params, always: true })
}
