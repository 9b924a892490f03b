import { waveOf } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { resendQuota } from '../rules/rollout.ts'

// With a rate, devices that wait for their first notice share it with those that are told again: half and half.

/** Of so many notices now, how many may be sent again. */
export function resendsNow(task: TaskContext, open: boolean, quota: number): number {
  const { spec, run } = task
  const isShared = open && spec.policy.ratePerMinute !== undefined && isFirstWaiting(task)
  return isShared ? resendQuota(run, quota) : quota
}

/** Notes that so many notices went out which draw on the rate. */
export function noteShares(task: TaskContext, { first, again }: { first: number; again: number }): void {
  const { spec, run } = task
  if (spec.policy.ratePerMinute === undefined) return
  run.resendLead = isFirstWaiting(task) ? Math.max(0, run.resendLead + again - first) : 0
}

function isFirstWaiting(task: TaskContext): boolean {
  const { storage, run, now } = task
  if (storage.readOwed(now(), false, 1, 'first').length > 0) return true
  if (run.cuts === null || run.sendCursor === null) return false
  return storage.readFresh(run.sendCursor, 1, inOpenWave(task)).rows.length > 0
}

export const inOpenWave = (task: TaskContext) => (device: { deviceId: string; wave: number | null }) =>
  isWaveOpen(task.run, waveOf(task, device))
