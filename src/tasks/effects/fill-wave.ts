import { countIn } from '../rules/counts.ts'
import { openWave } from '../rules/task-run.ts'
import { placeOf } from '../rules/waves.ts'
import { waveOf } from './change-device.ts'
import type { TaskContext } from './task-context.ts'

const PAGE_SIZE = 500

/**
 * Takes so many devices of the waves behind into the open one, in the order of their places: its last place moves. Ended
 * devices in between come along; they count for nothing.
 */
export function fillWave(task: TaskContext, count: number): void {
  const { run, now, save } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  Object.assign(wave, { filledAt: now(), lackingSince: null, goodSince: null })
  run.polled = false
  const last = lastPlace(task, index, count)
  if (last === undefined) {
    // Nobody is left behind after all: it is as large as it can be.
    wave.size = wave.reached + wave.waiting
  } else {
    const moved: string[] = []
    for (const { deviceId, place } of behind(task, index)) if (place <= last) moved.push(deviceId)
    for (let at = 0; at < moved.length; at += PAGE_SIZE) move(task, moved.slice(at, at + PAGE_SIZE), index)
    run.cuts = run.cuts!.map((cut, at) => (at < index ? cut : Math.max(cut, last)))
    // Sending begins again from the first device.
    run.sendCursor = ''
  }
  save()
}

/** The devices of the waves behind, one by one: there may be a million. */
function* behind(task: TaskContext, index: number) {
  for (const device of task.storage.readPlaced()) {
    if (waveOf(task, device) > index) yield { ...device, place: placeOf(task.spec.id, device.deviceId) }
  }
}

/** The place of the last of the next so many that have not ended; undefined if there are none. */
function lastPlace(task: TaskContext, index: number, count: number): number | undefined {
  const places: number[] = []
  for (const { hasEnded, place } of behind(task, index)) if (!hasEnded) places.push(place)
  places.sort((a, b) => a - b)
  return places[Math.min(count, places.length) - 1]
}

/** Counts these devices in the wave instead of their own. */
function move(task: TaskContext, deviceIds: string[], index: number): void {
  const { run, storage } = task
  const wave = run.waves[index]!
  for (const row of storage.readRowsOf(deviceIds)) {
    const from = run.waves[waveOf(task, row)]!
    from.devices--
    from.size--
    countIn(from, row.upgrade, -1)
    wave.devices++
    countIn(wave, row.upgrade, 1)
    // A device that joined has its wave in its row.
    if (row.wave !== null) storage.moveToWave(row.deviceId, index)
  }
}
