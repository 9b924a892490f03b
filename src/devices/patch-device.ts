import type { Env } from '../common/env.ts'
import { conflict, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { findProduct } from '../products/store.ts'
import { newcomerNotifier, releaseFromProduct, wakeTasksOfProduct } from '../tasks/api/tell-tasks.ts'
import { numberTaken, topicTaken } from './create-device.ts'
import type { Device, DeviceChanges } from './device.ts'
import { endSessions } from './sessions.ts'
import { findDevice, findDeviceByNumber, isTopicTaken, moveDevice, updateDevice } from './store.ts'

/**
 * Changes a device, also while tasks run (src/protocol/README.md#devices-that-change). The move comes first, so
 * that nothing has changed if it is refused. Tasks are told on every call: a repeat reaches the ones that a first
 * call missed.
 */
export async function patchDevice(
  env: Env,
  db: Db,
  tenantId: string,
  id: string,
  { productId, ...changes }: DeviceChanges,
): Promise<Device> {
  const before = await findDevice(db, tenantId, id)
  if (!before) throw notFound('device')
  if (productId !== undefined && productId !== before.productId)
    await moveToProduct(env, db, before, productId)
  const after = await updateDevice(db, tenantId, id, changes)
  if (!after) throw notFound('device')
  if (changes.enabled === false) await endSessions(env, after)
  if (changes.enabled === true) await wakeTasksOfProduct(env, after.productId, [after.id])
  if (changesSelection({ productId, ...changes })) await (await newcomerNotifier(env, after.productId))([id])
  return after
}

/** True if the change may bring the device into a dynamic task. */
const changesSelection = ({ productId, tags, name }: DeviceChanges) =>
  productId !== undefined || tags !== undefined || name !== undefined

async function moveToProduct(env: Env, db: Db, device: Device, productId: string): Promise<void> {
  const target = await findProduct(db, device.tenantId, productId)
  if (!target) throw notFound('product')
  if (await findDeviceByNumber(db, device.tenantId, productId, device.number)) throw numberTaken()
  if (await isTopicTaken(db, productId, device.number)) throw topicTaken()
  const busy = conflict('device.busy', 'The device has an active upgrade; it cannot leave its product now.')
  if (!(await releaseFromProduct(env, device))) throw busy
  // Refused again if a task took a slot of the device in between.
  if (!(await moveDevice(db, device, productId))) throw busy
  const left = await findProduct(db, device.tenantId, device.productId)
  // The products may have different bridges: a session on the old one no longer counts.
  if (left?.bridge !== target.bridge) await endSessions(env, device)
}
