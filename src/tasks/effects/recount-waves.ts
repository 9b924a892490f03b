import { countIn } from '../rules/counts.ts'
import { newWave } from '../rules/task-run.ts'
import { waveOf } from './change-device.ts'
import type { TaskContext } from './task-context.ts'

/** An earlier release counted less of its waves, and some of it wrongly: all is counted anew from the devices, once. */
export function recountIfOld(task: TaskContext): void {
  const { run, storage, now, save } = task
  if (run.waves.every((wave) => wave.size !== undefined)) return
  run.waves = run.waves.map(({ devices, openedAt, goodSince }) => ({
    ...newWave(),
    devices,
    size: devices,
    openedAt,
    goodSince,
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
