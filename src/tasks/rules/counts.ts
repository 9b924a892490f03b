import { openWave, type TaskRun } from './task-run.ts'
import { isEnded, type Upgrade } from './upgrade.ts'

// What a device counts for in its task. Each change adds and subtracts, so that nothing is ever recounted. Pure.

/** What a device counts for in the waves and the halt rule (src/protocol/README.md#what-gates-count). */
export function countsAs(upgrade: Upgrade) {
  const { status, reachedAt, failedBefore, rolledBack, gone } = upgrade
  // A cancelled device says nothing about the package.
  const reached = (reachedAt !== null || failedBefore) && status !== 'cancelled'
  const isLost = reachedAt === null && status !== 'success'
  const failed = reached && (status === 'failure' || rolledBack || gone || isLost)
  const succeeded = reached && status === 'success' && !failed
  return { reached, failed, succeeded, underWay: isUnderWay(upgrade) }
}

/** Its first notice is owed now or on its way. A device that waits for something else, or is told again, holds up no wave. */
export const isUnderWay = ({ status, reachedAt, offer, owed, heldUntil }: Upgrade) =>
  !isEnded(status) && reachedAt === null && heldUntil === null && (offer !== null || owed !== 'no')

/** Counts a change of a device of this wave. Returns the device with the epoch in which the halt rule counts it. */
export function recount(run: TaskRun, wave: number, before: Upgrade, after: Upgrade): Upgrade {
  if (after.status !== before.status) {
    run.counts[before.status]--
    run.counts[after.status]++
    if (run.unwritten === 'no') run.unwritten = 'counts'
  }
  run.rolledBack += Number(after.rolledBack) - Number(before.rolledBack)
  run.retrying += Number(after.retryAt !== null) - Number(before.retryAt !== null)
  const was = countsAs(before)
  const is = countsAs(after)
  const counted = run.waves[wave]
  if (counted) {
    for (const key of ['reached', 'failed', 'succeeded', 'underWay'] as const) {
      counted[key] += Number(is[key]) - Number(was[key])
    }
  }
  if (was.failed === is.failed && was.succeeded === is.succeeded) return after
  const { halt } = run
  if (before.epoch === halt.epoch) {
    halt.settled--
    halt.failed -= Number(was.failed)
  }
  if (!is.failed && !is.succeeded) return { ...after, epoch: null }
  halt.settled++
  halt.failed += Number(is.failed)
  return { ...after, epoch: halt.epoch }
}

/** How many devices of the task were reached, and what became of them. */
export function reachedTotals({ waves }: TaskRun) {
  const sum = (key: 'reached' | 'succeeded' | 'failed') => waves.reduce((total, wave) => total + wave[key], 0)
  return { reached: sum('reached'), succeeded: sum('succeeded'), failed: sum('failed') }
}

export const isWaveOpen = (run: TaskRun, wave: number) => run.cuts !== null && wave <= openWave(run)
