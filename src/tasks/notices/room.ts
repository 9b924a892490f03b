import { reason } from '../../reasons/reason.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { changeStored, waveOf } from '../effects/change-device.ts'
import { recountWaves } from '../effects/recount-waves.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { countsAs } from '../rules/counts.ts'
import { roomInWave } from '../rules/rollout.ts'
import { openWave } from '../rules/task-run.ts'
import type { Upgrade } from '../rules/upgrade.ts'
import { UNTIL_TOLD } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'

// A wave that was filled up has more devices than are to be tried: those of before were only absent. Whichever turns up
// first is told, until as many were reached as the wave has; the others wait for the next wave.

const PAGE_SIZE = 200

/** Is it told for the first time? An operator who retries a device wants it told. */
const isUntold = (upgrade: Upgrade) =>
  upgrade.attempt === 1 && upgrade.pushes === 0 && upgrade.offer === null && !countsAs(upgrade).reached

/** May the device be told, as far as its wave goes? */
export const hasRoom = (task: TaskContext, row: DeviceRow, via: 'bridge' | 'https' = 'bridge'): boolean =>
  !takesRoom(task, row) || roomInWave(task.run, task.now(), via) > 0

const takesRoom = (task: TaskContext, row: DeviceRow) =>
  waveOf(task, row) === openWave(task.run) && isUntold(row.upgrade)

/** Returns those of the devices for which their wave has room; the others wait until it has. */
export function holdIfFull(task: TaskContext, deviceIds: string[]): string[] {
  let room = roomInWave(task.run, task.now())
  if (room === Number.POSITIVE_INFINITY) return deviceIds
  const rows = new Map(task.storage.readRowsOf(deviceIds).map((row) => [row.deviceId, row]))
  const wave = openWave(task.run) + 1
  const by = reason('wave_is_full', { wave, size: task.run.waves[wave - 1]!.size })
  const held = { type: 'held', until: UNTIL_TOLD, by, waiting: false } as const
  const admitted = deviceIds.filter((deviceId) => {
    const row = rows.get(deviceId)
    if (!row || !takesRoom(task, row) || room-- > 0) return true
    changeStored(task, deviceId, held, { code: 'waits', params: { reason: by } })
    return false
  })
  task.save()
  return admitted
}

/** How many of the devices that wait for room in their wave may be told now. */
export function admissible(task: Pick<TaskContext, 'run' | 'now'>): number {
  const { run } = task
  const index = openWave(run)
  const before = run.waves.slice(0, Math.max(index, 0)).reduce((sum, { full }) => sum + full, 0)
  return before + Math.min(run.waves[index]?.full ?? 0, roomLeft(task))
}

/** The room of the open wave, without what the devices need that are to be told already. */
function roomLeft({ run, now }: Pick<TaskContext, 'run' | 'now'>): number {
  const wave = run.waves[openWave(run)]
  const untold = wave ? wave.underWay - wave.full - wave.offered : 0
  return Math.max(0, roomInWave(run, now()) - Math.max(0, untold))
}

/** Room was made, or the next wave opened: devices that waited for it are told. Returns whether there may be more. */
export function admitPage(task: TaskContext): boolean {
  const { storage, run, now, save } = task
  if (admissible(task) === 0 || now() < run.blockedUntil || !applyPlan(task).open) return false
  let room = roomLeft(task)
  let released = 0
  for (let page = storage.readFull('', PAGE_SIZE); page.length > 0; ) {
    for (const row of page) {
      if (takesRoom(task, row) && room-- <= 0) continue
      changeStored(task, row.deviceId, { type: 'lookAgain' }, { code: 'waits_no_more' })
      released++
    }
    if (released >= PAGE_SIZE) break
    page = storage.readFull(page.at(-1)!.deviceId, PAGE_SIZE)
  }
  // The count is another release's, which did not keep it.
  if (released === 0) recountWaves(task)
  save()
  return released > 0
}
