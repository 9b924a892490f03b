import type { Notice } from '../../../../src/protocol/device.ts'
import { placeOf, waveOfPlace } from '../../../../src/tasks/rules/waves.ts'
import type { DeviceRow } from '../../../../src/tasks/storage/device-row.ts'
import { type PlayedDevice, type PlayedTask, type SeenTask, sourceOf, type World } from './world.ts'

// What must hold after every step, whatever happened. Reckoned from the devices' rows and from what the played devices did,
// with none of the code under test but the hash that spreads devices over waves.

// ---- The image ------------------------------------------------------------------------------------------

/** A notice is handed out. Returns what is wrong with it; null if nothing is. */
export function faultOfNotice(
  world: World,
  device: PlayedDevice,
  taskId: string | undefined,
  params: Notice['params'],
): string | null {
  const source = sourceOf(params.size)
  if ((source !== '') !== (params.isDiff === 1)) return 'a diff says that it is one'
  const isSaidAgain = device.toldSince.has(`${taskId} ${params.size}`)
  device.toldSince.add(`${taskId} ${params.size}`)
  // A device that has flashed in silence what it was told in this attempt is told so again: it runs the target already.
  const runsTarget = device.runs === params.version
  if (source !== '' && device.runs !== source && !isSaidAgain && !runsTarget) {
    return `a diff from ${source} went to ${device.token}, which runs ${device.runs}`
  }
  const task = world.tasks.find(({ id }) => id === taskId)
  if (!task || device.certain === null || device.certain === params.version) return null
  const newer = world.tasks.find(
    ({ number, product, version }) =>
      number > task.number && product === device.product && version === device.certain,
  )
  return newer === undefined
    ? null
    : `${device.token} certainly runs ${device.certain}, the target of task ${newer.number}, and was sent ${params.version} by task ${task.number}`
}

// ---- Counters -------------------------------------------------------------------------------------------

const hasEnded = ({ upgrade: { status } }: DeviceRow) =>
  status === 'success' || status === 'failure' || status === 'cancelled'
const isReached = ({ upgrade }: DeviceRow) =>
  upgrade.status !== 'cancelled' && (upgrade.reachedAt !== null || upgrade.failedBefore)
const hasFailed = (row: DeviceRow) => {
  const { status, rolledBack, gone, reachedAt } = row.upgrade
  return (
    isReached(row) &&
    (status === 'failure' || rolledBack || gone || (reachedAt === null && status !== 'success'))
  )
}
const isWell = (row: DeviceRow) =>
  isReached(row) && row.upgrade.status === 'success' && !hasFailed(row) && !row.upgrade.unseen
const isTelling = ({ upgrade }: DeviceRow) =>
  upgrade.reachedAt === null &&
  (upgrade.heldUntil === null || waitsForRoom({ upgrade })) &&
  (upgrade.offer !== null || upgrade.owed !== 'no')

const waitsForRoom = ({ upgrade }: Pick<DeviceRow, 'upgrade'>) => upgrade.heldBy?.code === 'wave_is_full'

export const waveOf = ({ task, run }: SeenTask, row: DeviceRow) =>
  row.wave ?? (run.cuts === null ? -1 : waveOfPlace(run.cuts, placeOf(task.id, row.deviceId)))

export function faultOfCounters(seen: SeenTask): string | null {
  const { run, rows, task } = seen
  const count = (is: (row: DeviceRow) => boolean) => rows.filter(is).length
  const expected: Record<string, number> = { total: rows.length }
  for (const status of ['pending', 'pushed', 'upgrading', 'success', 'failure', 'cancelled'] as const) {
    expected[status] = count(({ upgrade }) => upgrade.status === status)
  }
  const faults = differences(`task ${task.number}`, run.counts, expected)
  run.waves.forEach((wave, index) => {
    if (run.cuts === null) return
    const those = rows.filter((row) => waveOf(seen, row) === index)
    const number = (is: (row: DeviceRow) => boolean) => those.filter(is).length
    faults.push(
      ...differences(`task ${task.number}, wave ${index + 1}`, wave, {
        reached: number(isReached),
        failed: number(hasFailed),
        succeeded: number(isWell),
        unseen: number((row) => isReached(row) && row.upgrade.unseen),
        gone: number((row) => isReached(row) && row.upgrade.gone),
        waiting: number((row) => !isReached(row) && !hasEnded(row)),
        underWay: number((row) => !hasEnded(row) && isTelling(row)),
        upgrading: number(({ upgrade }) => upgrade.status === 'upgrading'),
        offered: number(
          (row) =>
            !hasEnded(row) &&
            !isReached(row) &&
            row.upgrade.attempt === 1 &&
            row.upgrade.offer !== null &&
            row.upgrade.heldUntil === null,
        ),
        full: number((row) => !hasEnded(row) && waitsForRoom(row)),
      }),
    )
    if (wave.devices < 0 || wave.size < 0) faults.push(`wave ${index + 1} has ${wave.devices} devices`)
  })
  const settled = rows.filter(
    (row) => row.upgrade.epoch === run.halt.epoch && (hasFailed(row) || isWell(row)),
  )
  faults.push(
    ...differences(`task ${task.number}, halt`, run.halt, {
      settled: settled.length,
      failed: settled.filter(hasFailed).length,
    }),
    ...differences(`task ${task.number}`, run as unknown as Record<string, unknown>, {
      rolledBack: count(({ upgrade }) => upgrade.rolledBack),
      retrying: count(({ upgrade }) => upgrade.retryAt !== null),
    }),
  )
  return faults[0] ?? null
}

const differences = (where: string, actual: object, expected: Record<string, number>): string[] =>
  Object.entries(expected).flatMap(([key, value]) => {
    const is = (actual as Record<string, unknown>)[key]
    return is === value ? [] : [`${where}: ${key} is ${is}, the rows say ${value}`]
  })

// ---- Evidence -------------------------------------------------------------------------------------------

/** Is there anything that the page of the protocol counts for a device that the task takes to be done well? */
function hasEvidence(world: World, task: PlayedTask, row: DeviceRow, device: PlayedDevice): boolean {
  if (row.upgrade.reportedTarget) return true
  const at100 = device.at100.get(task.id)
  if (!at100) return false
  if (device.lastSign > at100.tick) return true
  return !device.isPresenceKnown && world.now >= at100.at + task.timeoutMs
}

/** Was the device told while it may have been connected, or did it show itself since? */
const wasReached = (task: PlayedTask, device: PlayedDevice) => {
  const told = device.told.get(task.id)
  return told !== undefined && (told.wasThere || device.lastSign > told.tick || device.at100.has(task.id))
}

/** A wave has opened by itself. Returns why it should not have; null if it may. */
export function faultOfOpening(world: World, seen: SeenTask, opened: number): string | null {
  const { task, run, rows } = seen
  const before = run.waves.slice(0, opened).findLastIndex(({ devices }, index) => index === 0 || devices > 0)
  const wave = run.waves[before]!
  const those = rows.filter((row) => waveOf(seen, row) === before)
  const reached = those.filter(isReached)
  const deviceOf = (row: DeviceRow) => world.devices.find(({ id }) => id === row.deviceId)!
  const name = `task ${task.number}: wave ${opened + 1} opened`
  const imagined = reached.find((row) => !row.upgrade.failedBefore && !wasReached(task, deviceOf(row)))
  if (imagined) return `${name}, although ${deviceOf(imagined).token} was never reached`
  const unproved = those.find((row) => isWell(row) && !hasEvidence(world, task, row, deviceOf(row)))
  if (unproved) return `${name} on ${deviceOf(unproved).token}, which was not seen after its 100 %`
  const waves = task.plan.policy.waves as { successPercent: number }[]
  const well = those.filter(isWell).length
  // What changed at the same time may have changed right after.
  const settled = reached.filter((row) => isWell(row) || row.updatedAt !== world.now)
  if (well * 100 < waves[before]!.successPercent * settled.length) {
    return `${name}, although ${well} of ${reached.length} did well`
  }
  const isLeft = rows.some((row) => waveOf(seen, row) >= opened && !isReached(row) && !hasEnded(row))
  return reached.length < wave.size &&
    isLeft &&
    opened === run.waves.findLastIndex((each) => each.openedAt !== null)
    ? `${name}, although ${reached.length} of ${wave.size} were reached`
    : null
}

// ---- Standstill -----------------------------------------------------------------------------------------

/** All devices were willing for long: what still waits must wait for a reason that the page of the protocol knows. */
export function faultOfStandstill(seen: SeenTask): string | null {
  const { task, run, rows } = seen
  if (run.status !== 'running') return null
  const open = run.waves.findLastIndex(({ openedAt }) => openedAt !== null)
  const stuck = rows.filter((row) => !hasEnded(row) && (row.upgrade.heldUntil === null || waitsForRoom(row)))
  const inOpen = stuck.filter((row) => waveOf(seen, row) <= open)
  if (inOpen[0]) {
    const { deviceId, upgrade } = inOpen[0]
    return `task ${task.number}: ${deviceId} is ${upgrade.status} for ever (owed ${upgrade.owed})`
  }
  if (stuck.length === 0) return null
  if (open < 0) return `task ${task.number}: no wave ever opened`
  const wave = run.waves[open]!
  const waves = task.plan.policy.waves as { successPercent: number }[]
  const isBad = wave.succeeded * 100 < waves[open]!.successPercent * wave.reached
  return isBad && wave.reached >= wave.size
    ? null
    : `task ${task.number}: wave ${open + 2} never opens (${wave.reached} of ${wave.size} reached, ${wave.succeeded} well)`
}
