import { openWave, type TaskRun, type WaveCounts } from './task-run.ts'
import { isEnded, type Upgrade } from './upgrade.ts'

// What a device counts for in its task. Each change adds and subtracts, so that nothing is ever recounted. Pure.

/** What a device counts for in the waves and the halt rule (src/protocol/README.md#what-gates-count). */
export function countsAs(upgrade: Upgrade): Record<keyof WaveCounts, boolean> {
  const { status, reachedAt, failedBefore, rolledBack, gone, unseen } = upgrade
  // A cancelled device says nothing about the package.
  const reached = (reachedAt !== null || failedBefore) && status !== 'cancelled'
  const isLost = reachedAt === null && status !== 'success'
  const failed = reached && (status === 'failure' || rolledBack || gone || isLost)
  const succeeded = reached && status === 'success' && !failed && !unseen
  return {
    reached,
    failed,
    succeeded,
    unseen: reached && unseen,
    gone: reached && gone,
    waiting: !reached && !isEnded(status),
    underWay: isUnderWay(upgrade),
    upgrading: status === 'upgrading',
    offered:
      !reached &&
      !isEnded(status) &&
      upgrade.attempt === 1 &&
      upgrade.offer !== null &&
      upgrade.heldUntil === null,
    full: !isEnded(status) && isHeldAsFull(upgrade),
  }
}

/** Its first notice is owed now or on its way. A device that waits for something else, or is told again, holds up no wave. */
export const isUnderWay = (upgrade: Upgrade) => {
  const { status, reachedAt, offer, owed, heldUntil } = upgrade
  const isHeld = heldUntil !== null && !isHeldAsFull(upgrade)
  return !isEnded(status) && reachedAt === null && !isHeld && (offer !== null || owed !== 'no')
}

const isHeldAsFull = ({ heldBy }: Upgrade) => heldBy?.code === 'wave_is_full'

const WAVE_COUNTS = [
  'reached',
  'failed',
  'succeeded',
  'unseen',
  'gone',
  'waiting',
  'underWay',
  'upgrading',
  'offered',
  'full',
] as const satisfies (keyof WaveCounts)[]

/** A device comes into a wave (1) or leaves it (−1). */
export function countIn(wave: WaveCounts, upgrade: Upgrade, by: 1 | -1): void {
  const is = countsAs(upgrade)
  for (const key of WAVE_COUNTS) wave[key] += by * Number(is[key])
}

/**
 * Counts a change of a device of this wave, at `now` (ms since 1970). Returns the device with the epoch in which the halt
 * rule counts it. Before the devices are spread over the waves these count nothing.
 */
export function recount(run: TaskRun, wave: number, before: Upgrade, after: Upgrade, now: number): Upgrade {
  if (after.status !== before.status) {
    run.counts[before.status]--
    run.counts[after.status]++
    if (run.unwritten === 'no') run.unwritten = 'counts'
  }
  run.rolledBack += Number(after.rolledBack) - Number(before.rolledBack)
  run.retrying += Number(after.retryAt !== null) - Number(before.retryAt !== null)
  const was = countsAs(before)
  const is = countsAs(after)
  const counted = run.cuts === null ? undefined : run.waves[wave]
  if (counted) for (const key of WAVE_COUNTS) counted[key] += Number(is[key]) - Number(was[key])
  if (was.reached !== is.reached || was.failed !== is.failed || was.succeeded !== is.succeeded) {
    run.movedAt = now
    run.saidStalled = false
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
  const sum = (key: keyof WaveCounts) => waves.reduce((total, wave) => total + wave[key], 0)
  return {
    reached: sum('reached'),
    succeeded: sum('succeeded'),
    failed: sum('failed'),
    unseen: sum('unseen'),
    gone: sum('gone'),
  }
}

/** Devices of the waves that are not open yet which an upgrade still waits for. */
export const waitingBehind = (run: TaskRun): number =>
  run.waves.slice(openWave(run) + 1).reduce((total, { waiting }) => total + waiting, 0)

export const isWaveOpen = (run: TaskRun, wave: number) => run.cuts !== null && wave <= openWave(run)
