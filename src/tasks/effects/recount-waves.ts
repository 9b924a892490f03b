import { countIn } from '../rules/counts.ts'
import { unfinished } from '../rules/task.ts'
import { newWave, type TaskRun } from '../rules/task-run.ts'
import { waveOf } from './change-device.ts'
import type { TaskContext } from './task-context.ts'

/** An earlier release counted less of its waves, and some of it wrongly: then all is counted anew from the devices. */
export function recountIfOld(task: TaskContext): void {
  if (!isPlausible(task.run)) recountWaves(task)
}

/** Counts the devices of each wave anew. */
export function recountWaves(task: TaskContext): void {
  const { run, storage, now, save } = task
  run.waves = run.waves.map(({ devices, size = devices, openedAt, goodSince, filledAt = null }) => ({
    ...newWave(),
    devices,
    size,
    openedAt,
    goodSince,
    filledAt,
  }))
  run.movedAt = now()
  if (run.cuts !== null) {
    for (const device of storage.readUpgrades()) {
      const wave = run.waves[waveOf(task, device)]
      if (wave) countIn(wave, device.upgrade, 1)
    }
  }
  save()
}

/** Also after a release was taken back for a while: it did not count what it does not know. */
function isPlausible({ waves, counts }: TaskRun): boolean {
  const waiting = waves.reduce((sum, wave) => sum + wave.waiting, 0)
  const figures = waves.flatMap(({ size, reached, waiting, underWay, offered }) => [
    size,
    reached,
    waiting,
    underWay,
    offered,
  ])
  return figures.every((figure) => figure >= 0) && waiting <= unfinished(counts)
}
