import { countIn, countsAs } from '../rules/counts.ts'
import { openWave, type WaveRun } from '../rules/task-run.ts'
import { isEnded, type Upgrade } from '../rules/upgrade.ts'
import { placeOf } from '../rules/waves.ts'
import type { DeviceRow } from '../storage/device-row.ts'
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

/** Takes so many devices of the waves behind into the open one, in the order of their places. */
export function fillWave(task: TaskContext, count: number): void {
  const ids = [...readBehind(task)]
    .filter(({ hasEnded }) => !hasEnded)
    .sort((a, b) => a.place - b.place)
    .slice(0, count)
    .map(({ deviceId }) => deviceId)
  if (ids.length === 0) isAsLargeAsCanBe(task.run.waves[openWave(task.run)]!)
  takeIntoWave(task, ids)
}

/** Takes these devices of the waves behind into the open one; those between them stay where they are. */
export function takeIntoWave(task: TaskContext, deviceIds: string[]): void {
  const { run, storage, save } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  for (const row of readPages(task, deviceIds)) {
    const from = waveOf(task, row)
    moveCounts(run.waves[from]!, wave, row.upgrade)
    run.waves[from]!.size--
    storage.noteTakenFrom(row.deviceId, from)
    storage.moveToWave(row.deviceId, index)
  }
  noteFilled(task, wave)
  save()
}

/** The open wave is done: what it took in and did not tell goes back to the waves behind, which are tried in their turn. */
export function giveBack(task: TaskContext): void {
  const { run, storage, save } = task
  const index = openWave(run)
  const wave = run.waves[index]!
  if (wave.filledAt === null) return
  const homes = new Map(storage.readTakenFrom().map(({ deviceId, wave: home }) => [deviceId, home]))
  for (const row of readPages(task, [...homes.keys()])) {
    const home = homes.get(row.deviceId)!
    const isItsWave = waveOf(task, row) === index && home > index
    if (!isItsWave || isEnded(row.upgrade.status) || !isUntold(row.upgrade)) continue
    moveCounts(wave, run.waves[home]!, row.upgrade)
    run.waves[home]!.size++
    storage.moveToWave(row.deviceId, home)
    const moved = { ...row, wave: home }
    const released = changeDevice(task, moved, { type: 'lookAgain' }, { code: 'waits_no_more' })
    // What is owed to it is not due any more.
    if (released !== moved || row.sendAt !== null) writeDevice(task, released)
  }
  storage.forgetTakenFrom()
  save()
}

const isUntold = (upgrade: Upgrade) =>
  upgrade.pushes === 0 && upgrade.offer === null && !countsAs(upgrade).reached

function moveCounts(from: WaveRun, to: WaveRun, upgrade: Upgrade): void {
  from.devices--
  countIn(from, upgrade, -1)
  to.devices++
  countIn(to, upgrade, 1)
}

function* readPages({ storage }: TaskContext, deviceIds: string[]): Generator<DeviceRow> {
  for (let at = 0; at < deviceIds.length; at += PAGE_SIZE) {
    yield* storage.readRowsOf(deviceIds.slice(at, at + PAGE_SIZE))
  }
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
