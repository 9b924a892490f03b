import type { Env } from '../../common/env.ts'
import {
  findActiveSlots,
  findDynamicTasks,
  findTasksOfDevice,
  findTasksOfProduct,
} from '../database/tasks.ts'
import { taskStub } from './task-stub.ts'

/** However many tasks a product has, so many are called at once. */
const CALLS_AT_ONCE = 20
const TRIES = 3

/**
 * Tells the product's running tasks to look again now: it was unfrozen, or these devices were enabled. A call that
 * is lost costs only time: tasks look again by themselves.
 */
export async function wakeTasksOfProduct(
  env: Env,
  productId: string,
  deviceIds: string[] = [],
): Promise<void> {
  await tellEach(await findTasksOfProduct(env.DB, productId), (taskId) =>
    taskStub(env, taskId).wake(deviceIds),
  )
}

/**
 * The product was frozen: tells its open tasks, so that also what one of them is about to send stays. Answers the tasks
 * that could not be told; they find out when they next look, before each page of notices.
 */
export async function freezeTasksOfProduct(env: Env, productId: string): Promise<string[]> {
  return tellEach(await findTasksOfProduct(env.DB, productId), (taskId) => taskStub(env, taskId).freeze())
}

/** A package was recalled: tells these tasks, which no longer send it. Answers those that could not be told. */
export const recallFromTasks = (env: Env, taskIds: string[], packageId: string): Promise<string[]> =>
  tellEach(taskIds, (taskId) => taskStub(env, taskId).recalled(packageId))

/**
 * Devices of the product changed, and may match a dynamic task by now: answers who tells those tasks which ones. The
 * tasks are looked up once, however many devices there are to tell of.
 */
export async function tellingDynamicTasks(
  env: Env,
  productId: string,
): Promise<(deviceIds: string[]) => Promise<void>> {
  const taskIds = await findDynamicTasks(env.DB, productId)
  return async (deviceIds) => {
    if (deviceIds.length > 0) await tellEach(taskIds, (taskId) => taskStub(env, taskId).newcomers(deviceIds))
  }
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

/** Calls every task, a bounded number at once; one that cannot be reached holds up no other. Answers which those are. */
async function tellEach(taskIds: string[], tell: (taskId: string) => Promise<void>): Promise<string[]> {
  const left = [...taskIds]
  const untold: string[] = []
  const tellOneByOne = async () => {
    for (let taskId = left.pop(); taskId !== undefined; taskId = left.pop()) {
      try {
        await insistently(tell, taskId)
      } catch (error) {
        console.error(JSON.stringify({ code: 'task.not_told', task: taskId, error: `${error}` }))
        untold.push(taskId)
      }
    }
  }
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, tellOneByOne))
  return untold
}

/** The platform says of an error whether the call may be made again; never where the object has too much to do. */
async function insistently(tell: (taskId: string) => Promise<void>, taskId: string): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      return await tell(taskId)
    } catch (error) {
      const { retryable = false, overloaded = false } = error as { retryable?: boolean; overloaded?: boolean }
      if (tried === TRIES || !retryable || overloaded) throw error
    }
  }
}
