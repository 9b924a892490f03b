import { iso } from '../../common/time.ts'
import { type Reason, reason } from '../../reasons/reason.ts'
import { waveOf } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { planRollout } from '../rules/rollout.ts'
import { openWave, wavePercents } from '../rules/task-run.ts'
import { isEnded } from '../rules/upgrade.ts'
import { waveWaits } from '../rules/wave-waits.ts'
import type { DeviceRow } from '../storage/device-row.ts'

/** So many devices ahead of one are counted. */
const MAX_AHEAD = 100_000

/** Why nothing happens with a device; null if nothing is waited for. */
export function waitingFor(task: TaskContext, row: DeviceRow): Reason | null {
  const { spec, run, now } = task
  const { upgrade } = row
  if (upgrade.retryAt !== null) return reason('retries_at', { at: iso(upgrade.retryAt) })
  if (isEnded(upgrade.status)) return null
  const { closedBecause } = planRollout(spec, run, now())
  if (upgrade.status !== 'upgrading' && closedBecause !== null) return closedBecause
  const wave = waveOf(task, row)
  if (upgrade.status === 'pending' && !isWaveOpen(run, wave)) return waveWaits(task, wave)
  if (upgrade.heldBy !== null) return upgrade.heldBy
  if (upgrade.offline) return reason('offline_since', { at: lastTime(row, 'notice_offline') })
  if (upgrade.gone) return reason('gone_since', { at: lastTime(row, 'gone') })
  if (upgrade.offer !== null) return reason('notice_on_its_way')
  if (upgrade.owed !== 'no') return itsTurn(task, row)
  return reason(upgrade.status === 'pushed' ? 'device_to_begin' : 'next_message')
}

/** When the history last says so. */
const lastTime = ({ events, updatedAt }: DeviceRow, code: 'notice_offline' | 'gone') =>
  iso(events.findLast((event) => event.code === code)?.at ?? updatedAt)

function itsTurn(task: TaskContext, { deviceId }: DeviceRow): Reason | null {
  const { spec, run, storage, now } = task
  if (now() < run.blockedUntil) return run.blockedBy
  const { ratePerMinute } = spec.policy
  if (ratePerMinute === undefined) return reason('notice_is_next')
  const ahead = storage.countAhead(run.sendCursor ?? '', deviceId, MAX_AHEAD) * openShare(task)
  return reason('rate_limited', { minutes: Math.max(1, Math.ceil(ahead / ratePerMinute)) })
}

/** Of the devices whose first turn has not come, about this share is of the open wave. */
function openShare({ spec, run }: TaskContext): number {
  const percents = wavePercents(spec.policy)
  const index = openWave(run)
  const before = percents[index - 1] ?? 0
  return ((percents[index] ?? 100) - before) / (100 - before)
}
