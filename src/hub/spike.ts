import { keepAlert } from './alerts.ts'

const MINUTE_MS = 60_000
/** Rejections in one minute that are many, if they are this many times the mean of the hour before. */
const MANY = 100
const TIMES_THE_MEAN = 10
const MINUTES_COMPARED = 60
const QUIET_AFTER_TOLD_MS = 3600_000

/** Rejections by the minute. Plain numbers, since it is written with each batch that has some. */
export interface RejectionRate {
  /** Minutes since 1970. */
  minute: number
  /** In that minute so far. */
  count: number
  /** Of the minutes before, newest first; `MINUTES_COMPARED` at most. */
  before: number[]
  /** When a spike was last told, in ms since 1970. */
  toldAt: number
}

export interface Spike {
  count: number
  /** A minute, over the hour before. */
  mean: number
}

export const newRejectionRate = (): RejectionRate => ({ minute: 0, count: 0, before: [], toldAt: 0 })

/** Counts more rejections; `spike` where they are suddenly many and none was told within the hour. */
export function countRejections(
  rate: RejectionRate,
  more: number,
  now: number,
): { rate: RejectionRate; spike: Spike | null } {
  const counted = atMinute(rate, Math.floor(now / MINUTE_MS))
  counted.count += more
  // Minutes that the hub does not know of had none.
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

/** Counts what was rejected, and tells a spike (`rejections.spiking`). */
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
