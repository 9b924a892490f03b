import { soakMs, spacing } from './rollout.ts'
import type { TaskSpec } from './task.ts'
import { wavePercents } from './task-run.ts'
import { waveSizes } from './waves.ts'
import { windowAt } from './window.ts'

/** How a task would go at the soonest: every device is there, and succeeds as soon as it has its notice. Times in ms. */
export interface Estimate {
  waves: {
    percent: number
    devices: number
    /** Null where it would not open before the end. */
    opensAt: number | null
  }[]
  /** When the last notice would go out; null where that is not before the end. */
  endsAt: number | null
  /** Devices whose notice would not go out before the end. */
  notReached: number
}

/** What lies farther ahead than this is no estimate any more. */
const HORIZON_MS = 5 * 365 * 86_400_000

type Rules = Pick<TaskSpec, 'startAt' | 'endAt' | 'policy'>

/** `devices` are those that are not on the target, `notices` the part of them that would be sent one. Pure. */
export function estimate(spec: Rules, devices: number, notices: number): Estimate {
  const { policy } = spec
  const percents = wavePercents(policy)
  const until = Math.min(spec.endAt ?? Number.POSITIVE_INFINITY, spec.startAt + HORIZON_MS)
  let at: number | null = spec.startAt
  let sent = 0
  let endedAt: number | null = null
  let ends = 0
  const waves = waveSizes(percents, devices).map((size, index) => {
    ends += size
    const opensAt = at === null ? null : nextOpen(policy, at, until)
    // Who is skipped is spread over the waves as evenly as the others.
    const upTo = devices === 0 ? 0 : Math.round((notices * ends) / devices)
    if (opensAt !== null) {
      const sending = send(policy, opensAt, until, upTo - sent)
      sent += sending.sent
      endedAt = sending.endsAt
      at = endedAt === null ? null : endedAt + soakMs(policy, index)
    }
    if (opensAt === null) at = endedAt = null
    return { percent: percents[index]!, devices: size, opensAt }
  })
  return { waves: policy.waves ? waves : [], endsAt: endedAt, notReached: notices - sent }
}

/** The first time from `at` on when the window is open; null where that is not before `until`. */
function nextOpen({ window }: TaskSpec['policy'], at: number, until: number): number | null {
  const opening = window ? windowAt(window, at) : { open: true, changesAt: at }
  const opensAt = opening.open ? at : opening.changesAt
  return opensAt < until ? opensAt : null
}

/** Sends so many notices from `from` on, at the policy's rate and within its window. */
function send(
  policy: TaskSpec['policy'],
  from: number,
  until: number,
  notices: number,
): { sent: number; endsAt: number | null } {
  const { ratePerMinute, window } = policy
  if (ratePerMinute === undefined || notices === 0) return { sent: notices, endsAt: from }
  const apart = spacing(ratePerMinute)
  let sent = 0
  for (let at: number | null = from; at !== null; at = nextOpen(policy, at, until)) {
    const closesAt = Math.min(window ? windowAt(window, at).changesAt : until, until)
    const fits = Math.min(notices - sent, Math.max(1, Math.ceil((closesAt - at) / apart)))
    sent += fits
    if (sent === notices) return { sent, endsAt: Math.round(at + (fits - 1) * apart) }
    at = closesAt
  }
  return { sent, endsAt: null }
}
