import { iso } from '../../common/time.ts'
import { type Reason, reason } from '../../reasons/reason.ts'
import type { TaskSpec } from './task.ts'
import { openWave, type TaskRun, type WaveRun } from './task-run.ts'
import { closedUntil, windowAt } from './window.ts'

/** What the rules say at one moment: the one place that decides what is due in a task (src/protocol/README.md#states). */
export interface Plan {
  /** May Pending and Pushed devices be sent anything now? */
  open: boolean
  /** May an Upgrading device that asks be sent the notice again? Also while paused or past the end. */
  asks: boolean
  /** At most so many notices now: a page, or what the rate leaves of it. */
  quota: number
  /** When the rate allows the next notice, if it allows none now. */
  quotaAt: number | null
  /** When the plan may change by itself, in ms since 1970; null if only an event changes it. */
  lookAgainAt: number | null
  /** Why nothing is sent; null while open. */
  closedBecause: Reason | null
  /** Too many devices failed: the task is to pause, for this reason. */
  halt: Reason | null
  /** The next wave is to open. */
  opensWave: boolean
  /** Since when the open wave meets what opens the next one; null if it does not, or no wave is open. */
  goodSince: number | null
}

/** Notices in one page: enough to keep a bridge busy, few enough for one D1 statement and one frame. */
export const NOTICE_PAGE_SIZE = 200
/** With a rate, notices go out in steps of this. */
const RATE_STEP_MS = 250
/** An alarm may be this late: what the rate allowed meanwhile is made up for. */
const LATE_MS = 1000
/** A task that sent nothing for this long was not late but idle: that is not made up for. */
const IDLE_MS = 10_000
/** Rounding errors of fractional notices stay below this. */
const ROUNDING = 1e-6
const MINUTE_MS = 60_000

type Rules = Pick<TaskSpec, 'startAt' | 'endAt' | 'policy'>

/** What may be sent now, and what becomes of the task, given its rules, its counters and the clock. */
export function planRollout(spec: Rules, run: TaskRun, now: number): Plan {
  const { status } = run
  const { quota, quotaAt } = rateQuota(spec, run, now)
  const goodSince = run.waves[openWave(run)]?.goodSince ?? null
  const shut = { open: false, asks: false, quota, quotaAt, halt: null, opensWave: false, goodSince }
  const closed = (closedBecause: Reason, more: Partial<Plan> = {}): Plan => ({
    ...shut,
    closedBecause,
    lookAgainAt: null,
    ...more,
  })
  if (status === 'cancelled') return closed(reason('task_cancelled'))
  if (status === 'finished') return closed(reason('task_finished'))
  if (spec.endAt !== null && now >= spec.endAt) return closed(reason('end_reached'), { asks: true })
  if (now < spec.startAt) {
    return closed(reason('starts_at', { at: iso(spec.startAt) }), { lookAgainAt: spec.startAt })
  }
  if (status === 'paused') {
    const why = (run.halted && run.pausedBecause) || reason('task_paused')
    return closed(why, { lookAgainAt: spec.endAt, asks: true })
  }
  const halt = haltReason(spec, run)
  if (halt !== null) return closed(halt, { halt, asks: true })
  const wave = planWave(spec, run, now)
  const window = spec.policy.window && windowAt(spec.policy.window, now)
  const plan = { ...shut, ...wave, asks: true }
  const lookAgainAt = earliest(spec.endAt, wave.lookAgainAt, window?.changesAt ?? null)
  if (spec.policy.window && window?.open === false) {
    return { ...plan, lookAgainAt, closedBecause: closedUntil(spec.policy.window, now) }
  }
  return { ...plan, open: true, lookAgainAt, closedBecause: null }
}

export function earliest(...times: (number | null)[]): number | null {
  const known = times.filter((time) => time !== null)
  return known.length === 0 ? null : Math.min(...known)
}

// ---- Rate -----------------------------------------------------------------------------------------------

/** Milliseconds from one notice to the next, so that no minute has more notices than the rate, wherever it begins. */
export const spacing = (ratePerMinute: number) => (MINUTE_MS + LATE_MS) / ratePerMinute

/** What is left of the rate, in ms; after a longer pause only one step's worth. */
function unspentMs(ratePerMinute: number, { spentUpTo }: TaskRun, now: number): number {
  const idle = now - spentUpTo
  const made = idle <= IDLE_MS ? Math.min(idle, LATE_MS) : RATE_STEP_MS
  return Math.max(made, Math.min(idle, spacing(ratePerMinute)))
}

function rateQuota({ policy }: Rules, run: TaskRun, now: number) {
  const { ratePerMinute } = policy
  if (ratePerMinute === undefined) return { quota: NOTICE_PAGE_SIZE, quotaAt: null }
  const unspent = unspentMs(ratePerMinute, run, now)
  const quota = Math.floor(unspent / spacing(ratePerMinute) + ROUNDING)
  if (quota > 0) return { quota: Math.min(quota, NOTICE_PAGE_SIZE), quotaAt: null }
  const wait = Math.max(spacing(ratePerMinute) - unspent, run.spentUpTo + RATE_STEP_MS - now, 1)
  return { quota: 0, quotaAt: now + Math.ceil(wait) }
}

/**
 * Up to when (ms since 1970) the rate is used once so many more notices went out. Re-sends draw on it too. Devices that
 * are told whatever the rate cost the others no more than a minute.
 */
export function spend({ policy }: Rules, run: TaskRun, notices: number, now: number): number {
  const { ratePerMinute } = policy
  if (ratePerMinute === undefined) return run.spentUpTo
  const spentUpTo = now - unspentMs(ratePerMinute, run, now) + notices * spacing(ratePerMinute)
  return Math.min(spentUpTo, now + MINUTE_MS)
}

// ---- Halt -----------------------------------------------------------------------------------------------

/** Null unless too many of the reached devices that settled have failed. */
function haltReason({ policy }: Rules, { halt }: TaskRun): Reason | null {
  const { haltOn } = policy
  if (!haltOn || halt.settled < haltOn.minFinished) return null
  if (halt.failed * 100 <= haltOn.failurePercent * halt.settled) return null
  const { failed, settled } = halt
  const percent = percentOf(failed, settled)
  return reason('halted', { failed, settled, percent, limitPercent: haltOn.failurePercent })
}

/** To one decimal. */
export const percentOf = (part: number, whole: number) => Math.round((1000 * part) / Math.max(whole, 1)) / 10

// ---- Waves ----------------------------------------------------------------------------------------------

/** Does the open wave meet what opens the next one, and since when? */
function planWave({ policy }: Rules, run: TaskRun, now: number) {
  const stays = { opensWave: false, goodSince: null, lookAgainAt: null }
  const index = openWave(run)
  const next = run.waves[index + 1]
  // No notice goes out before the devices are spread over the waves.
  if (run.cuts === null || !next) return stays
  if (index < 0) return { ...stays, opensWave: true }
  const wave = run.waves[index]!
  if (wave.reached === 0 || !hasSucceeded(policy, wave, index)) return stays
  // It soaks from when all devices had their notice; a device that is told again later holds up only the opening.
  if (wave.goodSince === null && wave.underWay > 0) return stays
  const goodSince = wave.goodSince ?? now
  const opensAt = goodSince + soakMs(policy, index)
  if (now < opensAt) return { goodSince, opensWave: false, lookAgainAt: opensAt }
  return { goodSince, opensWave: wave.underWay === 0, lookAgainAt: null }
}

export const soakMs = ({ waves }: TaskSpec['policy'], index: number) =>
  (waves?.[index]?.soakMinutes ?? 0) * MINUTE_MS

export const successPercent = ({ waves }: TaskSpec['policy'], index: number) =>
  waves?.[index]?.successPercent ?? 0

export const hasSucceeded = (policy: TaskSpec['policy'], wave: WaveRun, index: number) =>
  wave.succeeded * 100 >= successPercent(policy, index) * wave.reached

/**
 * How long a link may live (s): at most `seconds`, and no longer than the window that is open and the task. A device that
 * asks outside of them has begun before, and goes on.
 */
export function linkSeconds(
  { policy, endAt }: Pick<TaskSpec, 'policy' | 'endAt'>,
  seconds: number,
  now: number,
): number {
  const window = policy.window && windowAt(policy.window, now)
  const stops = [window?.open ? window.changesAt : null, endAt !== null && endAt > now ? endAt : null]
  const left = stops.flatMap((at) => (at === null ? [] : Math.floor((at - now) / 1000)))
  return Math.max(1, Math.min(seconds, ...left))
}
