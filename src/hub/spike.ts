import { keepAlert } from './alerts.ts'

const MINUTE_MS = 60_000
/** A spike is at least this many rejections in one minute, and this many times the mean of the hour before. */
const MANY = 100
const TIMES_THE_MEAN = 10
const MINUTES_COMPARED = 60
const QUIET_AFTER_TOLD_MS = 3600_000

/** Rejections by the minute. Plain numbers, since it is written with each batch that has a rejection. */
export interface RejectionRate {
  /** Minutes since 1970. */
  minute: number
  /** In that minute so far. */
  count: number
  /** In each of the minutes before, newest first; `MINUTES_COMPARED` at most. */
  before: number[]
  /** When a spike was last reported, in ms since 1970. */
  toldAt: number
}

export interface Spike {
  count: number
  /** Rejections a minute, over the hour before. */
  mean: number
}

export const newRejectionRate = (): RejectionRate => ({ minute: 0, count: 0, before: [], toldAt: 0 })

/** Counts more rejections. `spike` is set if they are suddenly many and no spike was reported within the hour. */
export function countRejections(
  rate: RejectionRate,
  more: number,
  now: number,
): { rate: RejectionRate; spike: Spike | null } {
  const counted = atMinute(rate, Math.floor(now / MINUTE_MS))
  counted.count += more
  // A minute without a count had no rejections.
  const mean = counted.before.reduce((sum, count) => sum + count, 0) / MINUTES_COMPARED
  const isSpike = counted.count >= MANY && counted.count >= TIMES_THE_MEAN * mean
  if (!isSpike || now - counted.toldAt < QUIET_AFTER_TOLD_MS) return { rate: counted, spike: null }
  return { rate: { ...counted, toldAt: now }, spike: { count: counted.count, mean } }
}

function atMinute(rate: RejectionRate, minute: number): RejectionRate {
  const passed = Math.min(minute - rate.minute, MINUTES_COMPARED + 1)
  if (passed <= 0) return { ...rate }
  const empty = Array.from({ length: passed - 1 }, () => 0)
  return {
    ...rate,
    minute,
    count: 0,
    before: [...empty, rate.count, ...rate.before].slice(0, MINUTES_COMPARED),
  }
}

/** Counts rejections, and reports a spike (`rejections.spiking`). */
export function watchRejections(storage: DurableObjectStorage, more: number, now: number): void {
  const before = storage.kv.get<RejectionRate>('rejectionRate') ?? newRejectionRate()
  const { rate, spike } = countRejections(before, more, now)
  storage.kv.put('rejectionRate', rate)
  if (!spike) return
  const perMinuteBefore = Math.round(spike.mean * 10) / 10
  keepAlert(storage, {
    type: 'rejections.spiking',
    at: now,
    data: {},
    ownData: { inThisMinute: spike.count, perMinuteInTheHourBefore: perMinuteBefore },
  })
}
