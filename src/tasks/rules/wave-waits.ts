import { iso } from '../../common/time.ts'
import { type Reason, reason } from '../../reasons/reason.ts'
import {
  hasSucceeded,
  isComplete,
  percentOf,
  reachesNobody,
  soakMs,
  successPercent,
  topUpMs,
  underWayIn,
} from './rollout.ts'
import type { TaskSpec } from './task.ts'
import { openWave, type TaskRun, type WaveRun } from './task-run.ts'

/** Why the wave (from 0) is closed. Waves are numbered from 1 for people. Pure. */
export function waveWaits(
  { spec: { policy }, run, now: clock }: { spec: Pick<TaskSpec, 'policy'>; run: TaskRun; now: () => number },
  index: number,
): Reason {
  const now = clock()
  const openIndex = openWave(run)
  const open = run.waves[openIndex]
  if (run.cuts === null || !open) return reason('enrolling')
  const numbers = { wave: index + 1, open: openIndex + 1 }
  if (index > openIndex + 1) return reason('wave_after_wave', { wave: index + 1, before: index })
  const percent = successPercent(policy, openIndex)
  const underWay = underWayIn(run, open, now)
  if (underWay === 0 && !isComplete(run, open)) {
    if (reachesNobody(run, open, now)) return reason('wave_reaches_nobody', numbers)
    const { size, reached, foundNobodyAt } = open
    if (foundNobodyAt !== null) {
      return reason('wave_finds_nobody', { ...numbers, size, reached, at: iso(foundNobodyAt) })
    }
    return reason('wave_needs_reached', {
      ...numbers,
      size,
      reached,
      ...fillsAt(open, topUpMs(policy, openIndex)),
    })
  }
  if (open.reached === 0) return reason('wave_needs_first_success', { ...numbers, percent })
  if (!hasSucceeded(policy, open, openIndex)) {
    const { unseen, succeeded, reached } = open
    const couldBe = { ...open, succeeded: succeeded + unseen }
    if (unseen > 0 && hasSucceeded(policy, couldBe, openIndex)) {
      return reason('wave_needs_seen', { ...numbers, unseen, minutes: policy.deviceTimeoutMinutes })
    }
    return reason('wave_needs_success', { ...numbers, percent, now: percentOf(succeeded, reached) })
  }
  if (open.goodSince !== null) {
    const opensAt = open.goodSince + soakMs(policy, openIndex)
    return reason('wave_opens_at', { ...numbers, at: iso(Math.max(opensAt, now)) })
  }
  return reason('wave_needs_notices', numbers)
}

const fillsAt = ({ lackingSince }: WaveRun, afterMs: number) =>
  lackingSince === null ? {} : { at: iso(lackingSince + afterMs) }
