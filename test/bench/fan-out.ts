import { makeFleet, rate, startTask } from './fleet.ts'
import type { Local } from './local.ts'
import type { Player } from './player.ts'

/** From the task's creation: devices a second until all have their notice, and when the first and the last came (ms). */
export interface FanOut {
  devicesPerSecond: number
  firstMs: number
  lastMs: number
}

/** A fleet of its own each time: what a device went through before would count. */
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
