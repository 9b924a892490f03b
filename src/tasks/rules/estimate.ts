import { soakMs, spacing } from './rollout.ts'
import type { TaskSpec } from './task.ts'
import { wavePercents } from './task-run.ts'
import { waveSizes } from './waves.ts'
import { windowAt } from './window.ts'

/**
 * How a task would go at the soonest. It assumes that every device is connected and succeeds as soon as it has its notice,
 * that no device joins or leaves, and that the rate is used in full. So nothing is sent twice and nothing halts the task.
 * Times in ms since 1970.
 */
export interface Estimate {
  waves: {
    percent: number
    devices: number
    /** When both it and the window are open; null if that is not before the end. */
    opensAt: number | null
  }[]
  /** When the last notice would go out; null if that is not before the end, or there is no notice. */
  endsAt: number | null
  /** Devices whose notice would not go out before the end. */
  notReached: number
}

/** Nothing farther ahead than this is estimated. */
const HORIZON_MS = 5 * 365 * 86_400_000

type Rules = Pick<TaskSpec, 'startAt' | 'endAt' | 'policy'>

/** `devices` are those that are not on the target, `notices` the part of them that would be sent one. Pure. */
export function estimate(spec: Rules, devices: number, notices: number): Estimate {
  const { policy } = spec
  const percents = wavePercents(policy)
  const until = Math.min(spec.endAt ?? Number.POSITIVE_INFINITY, spec.startAt + HORIZON_MS)
  let opensAt: number | null = spec.startAt
  let endsAt: number | null = null
  let rateFreeAt = spec.startAt
  let through = 0
  let sent = 0
  const waves = waveSizes(percents, devices).map((size, index) => {
    opensAt = opensAt === null ? null : nextOpen(policy, opensAt, until)
    const wave = { percent: percents[index]!, devices: size, opensAt }
    through += size
    // An empty wave is passed over: there is nothing to soak, and it is not what ends the task.
    if (opensAt === null || (size === 0 && index > 0)) return wave
    // Skipped devices are spread over the waves as evenly as the others.
    const share = Math.round((notices * through) / Math.max(devices, 1)) - sent
    const due = Math.min(size, notices - sent, Math.max(1, share))
    const sending = send(policy, opensAt, rateFreeAt, until, due)
    sent += sending.sent
    rateFreeAt = sending.rateFreeAt
    if (due > 0) endsAt = sending.lastAt
    // A wave in which no device is sent a notice opens no other wave by itself.
    opensAt = due === 0 || endsAt === null ? null : endsAt + soakMs(policy, index)
    return wave
  })
  const isReached = sent === notices
  return { waves: policy.waves ? waves : [], endsAt: isReached ? endsAt : null, notReached: notices - sent }
}

/** The first time from `at` on when the window is open; null if that is not before `until`. */
function nextOpen({ window }: TaskSpec['policy'], at: number, until: number): number | null {
  const opening = window ? windowAt(window, at) : { open: true, changesAt: at }
  const opensAt = opening.open ? at : opening.changesAt
  return opensAt < until ? opensAt : null
}

/**
 * Sends so many notices, none before the wave opens, and none before the rate allows one: the wave before may still use
 * it. `lastAt`: when the last notice went out; null if not all did.
 */
function send(
  policy: TaskSpec['policy'],
  opensAt: number,
  rateFreeAt: number,
  until: number,
  notices: number,
) {
  const { ratePerMinute, window } = policy
  if (ratePerMinute === undefined || notices === 0) return { sent: notices, lastAt: opensAt, rateFreeAt }
  const apart = spacing(ratePerMinute)
  let next = Math.max(opensAt, rateFreeAt)
  let sent = 0
  for (;;) {
    const at = nextOpen(policy, next, until)
    if (at === null) return { sent, lastAt: null, rateFreeAt: next }
    const closesAt = Math.min(window ? windowAt(window, at).changesAt : until, until)
    const fits = Math.min(notices - sent, Math.ceil((closesAt - at) / apart))
    sent += fits
    next = at + fits * apart
    if (sent === notices) return { sent, lastAt: Math.round(next - apart), rateFreeAt: next }
  }
}
