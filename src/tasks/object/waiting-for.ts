import { iso } from '../../common/time.ts'
import { waveOf } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { hasSucceeded, percentOf, planRollout, soakMs, successPercent } from '../rules/rollout.ts'
import { openWave, wavePercents } from '../rules/task-run.ts'
import { isEnded } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'

/** Of those ahead of a device, so many are counted. */
const MAX_AHEAD = 100_000

/** Why nothing happens with a device, in plain words; null where nothing is waited for. */
export function waitingFor(task: TaskContext, row: DeviceRow, now: number): string | null {
  const { spec, run } = task
  const { upgrade } = row
  if (upgrade.retryAt !== null) return `its automatic retry at ${iso(upgrade.retryAt)}`
  if (isEnded(upgrade.status)) return null
  const { closedBecause } = planRollout(spec, run, now)
  if (upgrade.status !== 'upgrading' && closedBecause !== null) return closedBecause
  const wave = waveOf(task, row)
  if (upgrade.status === 'pending' && !isWaveOpen(run, wave)) return waveWaits(task, wave, now)
  if (upgrade.heldBy !== null) return upgrade.heldBy
  if (upgrade.offline) return `offline since ${since(row)}: it is told when it subscribes, reports or asks`
  if (upgrade.gone) return `silent and not connected since its notice: gone since ${since(row)}`
  if (upgrade.offer !== null) return 'the notice is on its way'
  if (upgrade.owed !== 'no') return itsTurn(task, row, now)
  return upgrade.status === 'pushed' ? 'the device to begin' : "the device's next message"
}

/** The bridge's word, or the device's silence, came last. */
const since = ({ events, updatedAt }: DeviceRow) =>
  iso(events.findLast(({ kind }) => kind === 'notice offline' || kind.startsWith('gone'))?.at ?? updatedAt)

function waveWaits({ spec, run }: TaskContext, wave: number, now: number): string {
  const index = openWave(run)
  const open = run.waves[index]
  if (run.cuts === null || !open) return 'the devices are being taken in'
  if (wave > index + 1) return `wave ${wave + 1} opens after wave ${wave}`
  const { policy } = spec
  const enough = `${successPercent(policy, index)} % of wave ${index + 1} succeeded`
  if (open.reached === 0) return `wave ${wave + 1} opens when ${enough} (none was reached yet)`
  if (!hasSucceeded(policy, open, index)) {
    return `wave ${wave + 1} opens when ${enough} (now ${percentOf(open.succeeded, open.reached)})`
  }
  if (open.goodSince !== null) {
    const opensAt = open.goodSince + soakMs(policy, index)
    return `wave ${wave + 1} opens at ${iso(Math.max(opensAt, now))}, if wave ${index + 1} stays as good`
  }
  return `wave ${wave + 1} opens when all of wave ${index + 1} were sent their notice`
}

function itsTurn(task: TaskContext, { deviceId }: DeviceRow, now: number): string | null {
  const { spec, run, storage } = task
  if (now < run.blockedUntil) return run.blockedBy
  const { ratePerMinute } = spec.policy
  if (ratePerMinute === undefined) return 'its notice is next to be sent'
  const ahead = storage.countAhead(run.sendCursor ?? '', deviceId, MAX_AHEAD) * openShare(task)
  return `rate: about ${Math.max(1, Math.ceil(ahead / ratePerMinute))} min`
}

/** Of the devices whose first turn has not come, about this part is of the open wave. */
function openShare({ spec, run }: TaskContext): number {
  const percents = wavePercents(spec.policy)
  const index = openWave(run)
  const before = percents[index - 1] ?? 0
  return ((percents[index] ?? 100) - before) / (100 - before)
}
