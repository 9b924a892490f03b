import type { Env } from '../../common/env.ts'
import { errorFields, logError } from '../../common/log.ts'
import type { ReasonCode } from '../../reasons/reason.ts'
import {
  findActiveSlots,
  findDynamicTasks,
  findTasksOfDevice,
  findTasksOfProduct,
} from '../database/tasks.ts'
import { taskStub } from './task-stub.ts'

/** So many tasks of a product are called at once, however many it has. */
const CALLS_AT_ONCE = 20

/** Tells the product's running tasks that it was unfrozen. A call that is lost costs only time: they look again by themselves. */
export async function unfreezeTasksOfProduct(env: Env, productId: string): Promise<void> {
  await callEach(await findTasksOfProduct(env.DB, productId), (taskId) => taskStub(env, taskId).unfrozen())
}

/** The same, where these devices were enabled. */
export async function wakeTasksOfProduct(env: Env, productId: string, deviceIds: string[]): Promise<void> {
  await callEach(await findTasksOfProduct(env.DB, productId), (taskId) =>
    taskStub(env, taskId).wake(deviceIds),
  )
}

/**
 * The product was frozen: tells its open tasks, so that a notice that one of them is about to send stays too. Returns the
 * tasks that could not be told; they find out before their next page of notices.
 */
export async function freezeTasksOfProduct(env: Env, productId: string): Promise<string[]> {
  return callEach(await findTasksOfProduct(env.DB, productId), (taskId) => taskStub(env, taskId).freeze())
}

/** A package was recalled: tells these tasks, which no longer send it. Returns those that could not be told. */
export const recallFromTasks = (env: Env, taskIds: string[], packageId: string): Promise<string[]> =>
  callEach(taskIds, (taskId) => taskStub(env, taskId).recalled(packageId))

/**
 * Devices of the product changed, and may match a dynamic task by now: returns a function that tells those tasks which
 * ones. The tasks are looked up once, however many devices there are.
 */
export async function newcomerNotifier(
  env: Env,
  productId: string,
): Promise<(deviceIds: string[]) => Promise<void>> {
  const taskIds = await findDynamicTasks(env.DB, productId)
  return async (deviceIds) => {
    if (deviceIds.length > 0) await callEach(taskIds, (taskId) => taskStub(env, taskId).newcomers(deviceIds))
  }
}

/** A device was deleted: every task that still has something to do for it turns it Cancelled, "device deleted". */
export async function cancelDeletedDevice(
  env: Env,
  device: { id: string; productId: string },
): Promise<void> {
  await cancelEverywhere(env, device, 'device_deleted')
}

/**
 * May the device leave its product (src/protocol/README.md#devices-that-change)? False with an active upgrade; otherwise it was turned
 * Cancelled in every task where it was Pending without a slot.
 */
export async function releaseFromProduct(
  env: Env,
  device: { id: string; productId: string },
): Promise<boolean> {
  if ((await findActiveSlots(env.DB, device.id)).length > 0) return false
  await cancelEverywhere(env, device, 'device_moved')
  return true
}

async function cancelEverywhere(
  env: Env,
  device: { id: string; productId: string },
  why: ReasonCode,
): Promise<void> {
  const taskIds = await findTasksOfDevice(env.DB, device)
  // A task in which the device has ended, or is not, refuses; that is fine.
  await Promise.all(taskIds.map((taskId) => taskStub(env, taskId).cancelDevices([device.id], why)))
}

/** Calls every task, a bounded number at once; returns those that could not be reached, which hold up no other. */
async function callEach(taskIds: string[], tell: (taskId: string) => Promise<void>): Promise<string[]> {
  const left = [...taskIds]
  const untold: string[] = []
  const tellOneByOne = async () => {
    for (let taskId = left.pop(); taskId !== undefined; taskId = left.pop()) {
      try {
        await tell(taskId)
      } catch (error) {
        logError('task.not_told', { task: taskId, ...errorFields(error) })
        untold.push(taskId)
      }
    }
  }
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, tellOneByOne))
  return untold
}
