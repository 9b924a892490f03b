import { countIn } from '../rules/counts.ts'
import { openWave } from '../rules/task-run.ts'
import { placeOf } from '../rules/waves.ts'
import { waveOf, writeDevice } from './change-device.ts'
import type { TaskContext } from './task-context.ts'

const PAGE_SIZE = 500

/**
 * Takes so many devices of the waves behind into the open one, in the order of their places: its last place moves. Ended
 * devices in between come along; they count for nothing.
 */
export function fillWave(task: TaskContext, count: number): void {
  const { run, storage, now, save } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  wave.filledAt = now()
  wave.lackingSince = null
  wave.goodSince = null
  run.polled = false
  const last = lastPlace(task, index, count)
  // Nobody is left behind after all: it is as large as it can be.
  if (last === null) wave.size = wave.reached + wave.waiting
  else {
    const moved = [...behind(task, index)]
      .filter(({ place }) => place <= last)
      .map(({ deviceId }) => deviceId)
    for (let at = 0; at < moved.length; at += PAGE_SIZE) {
      for (const row of storage.readRowsOf(moved.slice(at, at + PAGE_SIZE))) {
        const from = run.waves[waveOf(task, row)]!
        from.devices--
        from.size--
        countIn(from, row.upgrade, -1)
        wave.devices++
        countIn(wave, row.upgrade, 1)
        // A device that joined has a wave of its own.
        if (row.wave !== null) storage.moveToWave(row.deviceId, index)
      }
    }
    run.cuts = run.cuts!.map((cut, at) => (at < index ? cut : Math.max(cut, last)))
    for (const row of storage.readRowsOf(moved)) if (row.events.length > 0) writeDevice(task, row)
    run.sendCursor = ''
  }
  save()
}

/** The devices of the waves behind, with their places. */
function* behind(task: TaskContext, index: number) {
  for (const device of task.storage.readPlaced()) {
    if (waveOf(task, device) > index) yield { ...device, place: placeOf(task.spec.id, device.deviceId) }
  }
}

/** The place of the last of the next so many devices that have not ended; null if there are none. */
function lastPlace(task: TaskContext, index: number, count: number): number | null {
  const places: number[] = []
  for (const { hasEnded, place } of behind(task, index)) if (!hasEnded) places.push(place)
  places.sort((a, b) => a - b)
  return places[Math.min(count, places.length) - 1] ?? null
}
