import { makeFleet, rate, startTask } from './fleet.ts'
import type { Local } from './local.ts'
import type { Player } from './player.ts'

/** Measured from the task's creation: notices a second over all devices, and the times of the first and last in ms. */
export interface FanOut {
  devicesPerSecond: number
  firstMs: number
  lastMs: number
}

/** Uses a new fleet each time, since earlier upgrades of a device would cost time. */
export async function fanOut(local: Local, player: Player, devices: number) {
  const fleet = await makeFleet(local, devices)
  const before = player.notices.size
  let first = 0
  player.onNotice = (_username, at) => {
    first ||= at
  }
  const since = performance.now()
  const task = await startTask(local, fleet)
  await player.untilNoticed(before + devices)
  const figures: FanOut = {
    devicesPerSecond: rate(devices, since),
    firstMs: Math.round(first - since),
    lastMs: Math.round(performance.now() - since),
  }
  player.onNotice = undefined
  return { fleet, taskId: task.id, figures }
}
