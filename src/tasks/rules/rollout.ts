import { iso } from '../../common/time.ts'
import { type Reason, reason } from '../../reasons/reason.ts'
import { reachedTotals, waitingBehind } from './counts.ts'
import { DEFAULT_TOP_UP_MINUTES, type TaskSpec } from './task.ts'
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
  /** So many devices of the waves behind are to be taken into the open one, for those that ended unreached. */
  fills: number
  /** Likewise, for those whose notice found nobody: of the devices that can be reached now. */
  topsUp: number
  /** Since when the open wave meets what opens the next one; null if it does not, or no wave is open. */
  goodSince: number | null
  /** `TaskRun.windowSince` as it is now. */
  windowSince: number | null
  /** `WaveRun.lackingSince` of the open wave as it is now; null if no wave is open. */
  lackingSince: number | null
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
  const { goodSince, lackingSince } = run.waves[openWave(run)] ?? { goodSince: null, lackingSince: null }
  const stays = { opensWave: false, fills: 0, topsUp: 0, goodSince, lackingSince, windowSince: null }
  const shut = { open: false, asks: false, quota, quotaAt, halt: null, ...stays }
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
  const windowSince = spec.policy.window ? (run.windowSince ?? now) : null
  return { ...plan, open: true, lookAgainAt, closedBecause: null, windowSince }
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
  if (ratePerMinute === undefined || notices === 0) return run.spentUpTo
  const spentUpTo = now - unspentMs(ratePerMinute, run, now) + notices * spacing(ratePerMinute)
  return Math.min(spentUpTo, now + MINUTE_MS)
}

/** Of so many notices now, how many may go out again while first ones wait: with those before, no more than half. */
export const resendQuota = ({ resendLead }: TaskRun, quota: number) =>
  Math.max(0, Math.floor((quota + 1 - resendLead) / 2))

// ---- Halt -----------------------------------------------------------------------------------------------

/** Null unless too many of the reached devices that settled have failed. */
function haltReason({ policy }: Rules, run: TaskRun): Reason | null {
  const { halt } = run
  const { haltOn } = policy
  if (!haltOn || halt.settled < haltOn.minFinished) return null
  if (halt.failed * 100 <= haltOn.failurePercent * halt.settled) return null
  const { failed, settled } = halt
  const percent = percentOf(failed, settled)
  const { gone, unseen } = reachedTotals(run)
  const silent = gone > 0 && unseen > 0 ? { unseen, minutes: policy.deviceTimeoutMinutes } : {}
  return reason('halted', { failed, settled, percent, limitPercent: haltOn.failurePercent, ...silent })
}

/** To one decimal. */
export const percentOf = (part: number, whole: number) => Math.round((1000 * part) / Math.max(whole, 1)) / 10

// ---- Waves ----------------------------------------------------------------------------------------------

/** A notice goes out again after this: a bridge that took none for so long is away. */
const BRIDGE_AWAY_MS = 60_000
/** To fill a wave up, all devices are looked through: at most once in so many ms for each of them. */
const FILL_MS_PER_DEVICE = 0.1
/** If none of the devices behind could be reached, they are looked through again after this. */
const LOOK_BEHIND_MS = 15 * MINUTE_MS

/** Since when no notice reaches a broker (ms since 1970); null if notices do. */
const unreachableSince = ({ creditlessSince, unconfirmedSince }: TaskRun) =>
  earliest(creditlessSince, unconfirmedSince)

/** For so long no bridge took a notice, or brought one to a broker, that it counts as away. */
export const isBridgeAway = (run: TaskRun, now: number) => awaySince(run, now) !== null

/** Since when the bridge is away (ms since 1970); null if it is not. */
export function awaySince(run: TaskRun, now: number): number | null {
  const since = unreachableSince(run)
  return since !== null && now >= since + BRIDGE_AWAY_MS ? since : null
}

/** How many devices of the open wave are told now: no more than it has room for. */
export function underWayIn(run: TaskRun, wave: WaveRun, now: number): number {
  // Notices that wait for a bridge hold up no wave of devices that come over HTTPS.
  if (isBridgeAway(run, now)) return 0
  const most = wave.filledAt === null ? wave.underWay : Math.max(wave.size - wave.reached, wave.offered)
  return Math.min(wave.underWay, most)
}

/** How many devices of the open wave may still be told for the first time; only a wave that was filled up has a limit. */
export function roomInWave(run: TaskRun, now: number, via: 'bridge' | 'https' = 'bridge'): number {
  const index = openWave(run)
  const wave = run.waves[index]
  if (!wave || wave.filledAt === null || index === run.waves.length - 1) return Number.POSITIVE_INFINITY
  return wave.size - wave.reached - (via === 'https' && isBridgeAway(run, now) ? 0 : wave.offered)
}

/** Does the open wave meet what opens the next one, and since when? Does it lack devices? */
function planWave({ policy }: Rules, run: TaskRun, now: number) {
  const stays = {
    opensWave: false,
    fills: 0,
    topsUp: 0,
    goodSince: null,
    lackingSince: null,
    lookAgainAt: null,
  }
  const index = openWave(run)
  const next = run.waves[index + 1]
  // No notice goes out before the devices are spread over the waves.
  if (run.cuts === null || !next) return stays
  if (index < 0) return { ...stays, opensWave: true }
  const wave = run.waves[index]!
  const underWay = underWayIn(run, wave, now)
  const lacks = { ...stays, ...planFill(policy, run, index, underWay, now) }
  if (wave.reached === 0 || !isComplete(run, wave) || !hasSucceeded(policy, wave, index)) return lacks
  // It soaks from when all devices had their notice; a device that is told again later holds up only the opening.
  if (wave.goodSince === null && underWay > 0) return lacks
  const goodSince = wave.goodSince ?? now
  const opensAt = goodSince + soakMs(policy, index)
  if (now < opensAt) return { ...lacks, goodSince, lookAgainAt: opensAt }
  return { ...lacks, goodSince, opensWave: underWay === 0 }
}

/** The wave's notices wait for a bridge that is away, and no device comes over HTTPS. */
export const reachesNobody = (run: TaskRun, wave: WaveRun, now: number) =>
  wave.underWay > 0 && isBridgeAway(run, now) && !run.polled

/** Were as many devices reached as the wave has, or is none left, in it or behind it, that could make up for one? */
export const isComplete = (run: TaskRun, wave: WaveRun) =>
  wave.reached >= wave.size || wave.waiting + waitingBehind(run) === 0

/**
 * How many devices the open wave takes from those behind: at once for those that ended unreached, and later for those whose
 * notice found nobody. While the bridge is away, only if devices come over HTTPS: else nobody can be reached at all.
 * The latter are made up for by devices that can be reached: a fleet that is switched off would else be taken in one by
 * one, and be told as a whole when it is back.
 */
function planFill(policy: TaskSpec['policy'], run: TaskRun, index: number, underWay: number, now: number) {
  const wave = run.waves[index]!
  const lacking = wave.size - wave.reached - underWay
  if (lacking <= 0 || waitingBehind(run) === 0) {
    const isFlapping = wave.reached < wave.size && waitingBehind(run) > 0
    return { fills: 0, topsUp: 0, lackingSince: isFlapping ? wave.lackingSince : null, lookAgainAt: null }
  }
  const lackingSince = wave.lackingSince ?? now
  const none = { fills: 0, topsUp: 0, lackingSince, lookAgainAt: null }
  if (underWay > 0 || reachesNobody(run, wave, now)) return none
  const ended = wave.size - wave.reached - wave.waiting
  // At once only if nothing at all is under way.
  const wanted = ended > 0 && wave.upgrading === 0 ? 0 : lackingSince + topUpMs(policy, index)
  const notBefore = (wave.filledAt ?? 0) + Math.ceil(run.counts.total * FILL_MS_PER_DEVICE)
  const lookAt = ended > 0 || wave.foundNobodyAt === null ? 0 : wave.foundNobodyAt + LOOK_BEHIND_MS
  const fillAt = Math.max(wanted, notBefore, lookAt)
  if (now < fillAt) return { ...none, lookAgainAt: fillAt }
  return ended > 0 ? { ...none, fills: ended } : { ...none, topsUp: lacking }
}

const STALLED_MS = 24 * 60 * MINUTE_MS
/** A window has just opened: what it was closed for is no standstill. */
const WINDOW_STALLED_MS = 60 * MINUTE_MS

/** When to say that the open wave has not moved for a day (ms since 1970); null if no wave waits, or that was said. */
export function stalledAt({ policy, startAt }: Rules, run: TaskRun, now: number): number | null {
  const index = openWave(run)
  const wave = run.waves[index]
  const waiting = wave && index < run.waves.length - 1 ? wave.waiting + waitingBehind(run) : 0
  const isWaiting = waiting > 0 && wave?.goodSince === null
  if (!isWaiting || run.saidStalled || run.status !== 'running' || now < startAt) return null
  if (!policy.window) return run.movedAt + STALLED_MS
  if (run.windowSince === null) return null
  const closesAt = windowAt(policy.window, now).changesAt
  return Math.max(
    run.movedAt + STALLED_MS,
    Math.min(run.windowSince + WINDOW_STALLED_MS, Math.floor((run.windowSince + closesAt) / 2)),
  )
}

export const topUpMs = ({ waves }: TaskSpec['policy'], index: number) =>
  (waves?.[index]?.topUpMinutes ?? DEFAULT_TOP_UP_MINUTES) * MINUTE_MS

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
