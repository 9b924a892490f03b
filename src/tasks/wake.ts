import type { Env } from '../env.ts'
import { findActiveSlots, findTasksOfDevice, findTasksOfProduct } from './store.ts'
import { taskStub } from './task-stub.ts'

/**
 * Tells the product's running tasks to look again now: it was unfrozen, or these devices were enabled. A call that
 * is lost costs only time: tasks look again by themselves.
 */
export async function wakeTasksOfProduct(
  env: Env,
  productId: string,
  deviceIds: string[] = [],
): Promise<void> {
  const taskIds = await findTasksOfProduct(env.DB, productId)
  await Promise.all(taskIds.map((taskId) => taskStub(env, taskId).wake(deviceIds)))
}

/** A device was deleted: every task that still has something to do for it turns it Cancelled, "device deleted". */
export async function deviceDeleted(env: Env, device: { id: string; productId: string }): Promise<void> {
  await cancelEverywhere(env, device, 'device deleted')
}

/**
 * May the device leave its product (PROTOCOL.md, 6)? False with an active upgrade; otherwise it was turned
 * Cancelled wherever it was Pending without a slot.
 */
export async function deviceLeavesProduct(
  env: Env,
  device: { id: string; productId: string },
): Promise<boolean> {
  if ((await findActiveSlots(env.DB, device.id)).length > 0) return false
  await cancelEverywhere(env, device, 'moved to another product')
  return true
}

async function cancelEverywhere(
  env: Env,
  device: { id: string; productId: string },
  reason: string,
): Promise<void> {
  const taskIds = await findTasksOfDevice(env.DB, device)
  // A task that the device ended in, or is not in, refuses, and that is well.
  await Promise.all(taskIds.map((taskId) => taskStub(env, taskId).cancelDevices([device.id], reason)))
}
