import { countIn, countsAs } from '../rules/counts.ts'
import { openWave, type WaveRun } from '../rules/task-run.ts'
import type { Upgrade } from '../rules/upgrade.ts'
import { placeOf, waveOfPlace } from '../rules/waves.ts'
import { changeDevice, waveOf, writeDevice } from './change-device.ts'
import type { TaskContext } from './task-context.ts'

const PAGE_SIZE = 500

/** A device of a wave that is closed. */
export interface BehindDevice {
  deviceId: string
  wave: number | null
  hasEnded: boolean
  place: number
}

/**
 * Takes so many devices of the waves behind into the open one, in the order of their places: its last place moves. Ended
 * devices in between come along; they count for nothing.
 */
export function fillWave(task: TaskContext, count: number): void {
  const { run, save } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  run.plannedCuts ??= run.cuts
  const last = lastPlace(task, count)
  if (last === undefined) isAsLargeAsCanBe(wave)
  else {
    moveAll(
      task,
      [...readBehind(task)].filter(({ place }) => place <= last).map(({ deviceId }) => deviceId),
      false,
    )
    run.cuts = run.cuts!.map((cut, at) => (at < index ? cut : Math.max(cut, last)))
  }
  noteFilled(task, wave)
  save()
}

/** Takes these devices of the waves behind into the open one; those between them stay where they are. */
export function topUpWave(task: TaskContext, deviceIds: string[]): void {
  const { run, save } = task
  run.plannedCuts ??= run.cuts
  moveAll(task, deviceIds, true)
  noteFilled(task, run.waves[openWave(run)]!)
  save()
}

/** The open wave is done: what it took in and did not tell goes back to the waves behind, which are tried in their turn. */
export function giveBack(task: TaskContext): void {
  const { run, spec, storage, save } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  const { plannedCuts } = run
  if (wave.filledAt === null || plannedCuts === null) return
  const plannedWave = (deviceId: string) => waveOfPlace(plannedCuts, placeOf(spec.id, deviceId))
  const candidates: string[] = []
  for (const device of storage.readPlaced()) {
    if (device.hasEnded || waveOf(task, device) !== index) continue
    if (plannedWave(device.deviceId) > index) candidates.push(device.deviceId)
  }
  for (let at = 0; at < candidates.length; at += PAGE_SIZE) {
    for (const row of storage.readRowsOf(candidates.slice(at, at + PAGE_SIZE))) {
      if (!isUntold(row.upgrade)) continue
      const to = plannedWave(row.deviceId)
      change(run.waves[to]!, wave, row.upgrade)
      run.waves[to]!.size++
      storage.moveToWave(row.deviceId, to)
      const moved = { ...row, wave: to }
      const released = changeDevice(task, moved, { type: 'lookAgain' }, { code: 'waits_no_more' })
      if (released !== moved) writeDevice(task, released)
    }
  }
  save()
}

const isUntold = (upgrade: Upgrade) =>
  upgrade.pushes === 0 && upgrade.offer === null && !countsAs(upgrade).reached

function change(to: WaveRun, from: WaveRun, upgrade: Upgrade): void {
  from.devices--
  countIn(from, upgrade, -1)
  to.devices++
  countIn(to, upgrade, 1)
}

/** Nobody is left behind that could make up for a device. */
export function isAsLargeAsCanBe(wave: WaveRun): void {
  wave.size = Math.min(wave.size, wave.reached + wave.waiting)
}

function noteFilled({ run, now }: TaskContext, wave: WaveRun): void {
  Object.assign(wave, { filledAt: now(), foundNobodyAt: null, lackingSince: null, goodSince: null })
  run.polled = false
  // Sending begins again from the first device.
  run.sendCursor = ''
}

/** The devices of the waves behind the open one, one by one and in no order: there may be a million. */
export function* readBehind(task: TaskContext): Generator<BehindDevice> {
  const index = openWave(task.run)
  for (const device of task.storage.readPlaced()) {
    if (waveOf(task, device) > index) yield { ...device, place: placeOf(task.spec.id, device.deviceId) }
  }
}

/** The place of the last of the next so many that have not ended; undefined if there are none. */
function lastPlace(task: TaskContext, count: number): number | undefined {
  const places: number[] = []
  for (const { hasEnded, place } of readBehind(task)) if (!hasEnded) places.push(place)
  places.sort((a, b) => a - b)
  return places[Math.min(count, places.length) - 1]
}

/** `keep`: write down the wave of each. Otherwise its place tells it, unless its row has one. */
function moveAll(task: TaskContext, deviceIds: string[], keep: boolean): void {
  for (let at = 0; at < deviceIds.length; at += PAGE_SIZE) {
    move(task, deviceIds.slice(at, at + PAGE_SIZE), keep)
  }
}

/** Counts these devices in the open wave instead of their own. */
function move(task: TaskContext, deviceIds: string[], keep: boolean): void {
  const { run, storage } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  for (const row of storage.readRowsOf(deviceIds)) {
    const from = run.waves[waveOf(task, row)]!
    change(wave, from, row.upgrade)
    from.size--
    // A device that joined has its wave in its row.
    if (keep || row.wave !== null) storage.moveToWave(row.deviceId, index)
  }
}
