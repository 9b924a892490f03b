import { filterOf, readDevices, SELECTION_PAGE_SIZE, type SelectedDevice } from '../database/selection.ts'
import { changeStored, waveOf } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { countIn, isWaveOpen } from '../rules/counts.ts'
import { wavePercents } from '../rules/task-run.ts'
import { newUpgrade } from '../rules/upgrade.ts'
import { cutWaves, placeOf, waveOfJoiner, waveSizes } from '../rules/waves.ts'
import type { NewDevice } from '../storage/task-storage.ts'

/**
 * Takes in the next page of devices as Pending; no slot is taken. The cursor is written with the devices, so that an
 * interrupted enrolment goes on where it was, and a repeated page changes nothing.
 */
export async function enrolPage(task: TaskContext): Promise<void> {
  const { run, spec, now, save } = task
  if (!run.enrolment) return
  const { cursor } = run.enrolment
  const { devices, next } = await readPage(task, cursor)
  // If the task started meanwhile, enrolment begins again from the first page; if it was cancelled, it is over.
  if (run.enrolment?.cursor !== cursor) return
  const isThere = (device: SelectedDevice) => device.isCertain && device.fromVersion === spec.targetVersion
  // A device on the target ends at once, and is part of no wave's sample.
  takeIn(
    task,
    devices.map((device) => ({ ...device, wave: isThere(device) ? 0 : null, isDue: false })),
  )
  run.enrolment = next === null ? null : { cursor: next }
  if (run.enrolment === null) {
    if (run.cuts === null && run.startedAt !== null) spreadOverWaves(task)
    if (spec.policy.dynamic && run.startedAt !== null) {
      run.joining = { at: now() + JOIN_EVERY_MS, before: cursor, after: devices.at(-1)?.deviceId ?? cursor }
    }
  }
  save()
}

function takeIn({ run, storage, now }: TaskContext, devices: NewDevice[]): NewDevice[] {
  const added = storage.insertDevices(devices, now())
  run.counts.total += added.length
  run.counts.pending += added.length
  // Before the devices are spread over the waves they are in none.
  if (run.cuts !== null) for (const { wave } of added) addToWave(run, wave ?? 0)
  if (added.length > 0 && run.unwritten === 'no') run.unwritten = 'counts'
  return added
}

/** All devices of the start are in: the waves get their sizes. */
function spreadOverWaves(task: TaskContext): void {
  const { spec, run, storage } = task
  const percents = wavePercents(spec.policy)
  const places = Uint32Array.from(storage.readUnplaced(), (deviceId) => placeOf(spec.id, deviceId))
  run.cuts = cutWaves(percents, places)
  waveSizes(percents, places.length).forEach((size, wave) => {
    run.waves[wave]!.devices = size
    run.waves[wave]!.size = size
  })
  const fresh = newUpgrade()
  for (const device of storage.readPending()) countIn(run.waves[waveOf(task, device)]!, fresh, 1)
}

/** Counts a new device, whose notice is owed. */
function addToWave({ waves }: TaskContext['run'], index: number): void {
  const wave = waves[index]!
  wave.devices++
  // What is to be reached is settled when the wave opens: devices that join one by one do not put off the next.
  if (wave.openedAt === null || wave.size === 0) wave.size++
  countIn(wave, newUpgrade(), 1)
}

// ---- Devices that join later (`dynamic`) ----------------------------------------------------------------

/** How often a dynamic task looks for devices that were made meanwhile. */
const JOIN_EVERY_MS = 30_000

/**
 * Takes in devices that were made since the last look, and devices outside the task that sent a message. Returns
 * whether there may be more.
 */
export async function joinPage(task: TaskContext): Promise<boolean> {
  const { run, spec, queues, now, save } = task
  const { joining } = run
  if (!spec.policy.dynamic || joining === null || run.enrolment !== null || isOver(run)) return false
  const heard = queues.readNewcomers(SELECTION_PAGE_SIZE)
  if (heard.length > 0) {
    const devices = await selectDevices(task, {
      after: '',
      limit: heard.length,
      ids: heard,
      filter: filterOf(spec),
    })
    join(task, devices)
    queues.deleteNewcomers(heard)
    save()
    return true
  }
  if (now() < Math.max(joining.at, task.joinNotBefore)) return false
  const devices = await selectDevices(task, {
    after: joining.before,
    limit: SELECTION_PAGE_SIZE,
    ids: null,
    filter: filterOf(spec),
  })
  if (devices.length === 0 && joining.before === joining.after) {
    task.joinNotBefore = now() + JOIN_EVERY_MS
    return false
  }
  join(task, devices)
  const last = devices.at(-1)?.deviceId
  const hasMore = devices.length === SELECTION_PAGE_SIZE
  // Ids grow with time, but rows may appear out of that order: each look begins where the last but one ended.
  run.joining = {
    at: hasMore ? joining.at : now() + JOIN_EVERY_MS,
    before: hasMore ? last! : joining.after,
    after: last && last > joining.after ? last : joining.after,
  }
  save()
  return hasMore
}

const isOver = ({ status, ended, endCursor }: TaskContext['run']) =>
  status === 'finished' || status === 'cancelled' || ended || endCursor !== null

/** The very first device falls into the first wave, whatever its place; the others by the waves' shares. */
function join(task: TaskContext, devices: SelectedDevice[]): void {
  const { run, spec } = task
  if (isOver(run)) return
  const percents = wavePercents(spec.policy)
  const isAlone = run.waves[0]!.devices === 0
  const placed = devices.map((device, index) => {
    const wave = isAlone && index === 0 ? 0 : waveOfJoiner(percents, placeOf(spec.id, device.deviceId))
    return { ...device, wave, isDue: isWaveOpen(run, wave) }
  })
  takeIn(task, placed)
  // Those that were in before, were moved to another product, and are back.
  for (const { deviceId } of devices) changeStored(task, deviceId, { type: 'rejoined' }, { code: 'rejoined' })
}

// ---- Which devices --------------------------------------------------------------------------------------

async function readPage(
  task: TaskContext,
  cursor: string,
): Promise<{ devices: SelectedDevice[]; next: string | null }> {
  const { selection } = task.spec
  if ('listed' in selection) {
    const page = cursor === '' ? 0 : Number(cursor)
    const ids = task.storage.readSelection(page)
    if (!ids) return { devices: [], next: null }
    const devices = await selectDevices(task, { after: '', limit: ids.length, ids, filter: {} })
    return { devices, next: String(page + 1) }
  }
  const devices = await selectDevices(task, {
    after: cursor,
    limit: SELECTION_PAGE_SIZE,
    ids: null,
    filter: filterOf(task.spec),
  })
  const last = devices.at(-1)
  return { devices, next: devices.length < SELECTION_PAGE_SIZE || !last ? null : last.deviceId }
}

const selectDevices = ({ env, spec }: TaskContext, which: Parameters<typeof readDevices>[2]) =>
  readDevices(env.DB, spec, which)
