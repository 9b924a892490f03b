import { expect, it } from 'vitest'
import { AWAY_AFTER_MS, watchBridge } from '../../../src/hub/absence.ts'
import { countRejections, newRejectionRate } from '../../../src/hub/spike.ts'
import { holdAfter, readRetryAfter, waitAfter } from '../../../src/webhooks/backoff.ts'
import { isSecret, newSecret } from '../../../src/webhooks/secret.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

it('a delivery is tried ten times, with waits of 5 s to a day that may be a fifth longer', () => {
  const waits = Array.from({ length: 10 }, (_, n) => waitAfter(n + 1, null, 0))
  const hours = [2, 5, 10, 14, 20, 24].map((count) => count * HOUR_MS)
  expect(waits).toEqual([5000, 5 * MINUTE_MS, 30 * MINUTE_MS, ...hours, null])
  expect(waitAfter(1, null, 0.999)).toBe(5999)
})

it('Retry-After makes the wait longer, never shorter, and adds no tries', () => {
  expect(waitAfter(1, 60_000, 0)).toBe(60_000)
  expect(waitAfter(2, 60_000, 0)).toBe(5 * MINUTE_MS)
  expect(waitAfter(10, 60_000, 0)).toBeNull()
})

it('Retry-After is read as seconds or as a date, up to an hour', () => {
  const now = Date.UTC(2026, 0, 1)
  expect(readRetryAfter('120', now)).toBe(120_000)
  expect(readRetryAfter(' 0 ', now)).toBe(0)
  expect(readRetryAfter('999999999999999999999', now)).toBe(HOUR_MS)
  expect(readRetryAfter('Thu, 01 Jan 2026 00:02:00 GMT', now)).toBe(2 * MINUTE_MS)
  expect(readRetryAfter('Thu, 01 Jan 2015 00:02:00 GMT', now)).toBe(0)
  for (const nothing of [null, '', 'soon', '-']) expect(readRetryAfter(nothing, now)).toBeNull()
})

it('a webhook that takes nothing is held back for a second at first and a minute at most', () => {
  expect([1, 2, 3, 10, 2000].map(holdAfter)).toEqual([1000, 2000, 4000, MINUTE_MS, MINUTE_MS])
})

it('a secret has the prefix whsec_ and 24 to 64 bytes in base64, and a new one is such', () => {
  const of = (bytes: number) => `whsec_${Buffer.alloc(bytes, 7).toString('base64')}`
  for (const secret of [of(24), of(25), of(64), newSecret()]) expect(isSecret(secret), secret).toBe(true)
  for (const secret of [
    of(23),
    of(65),
    of(32).slice(6),
    of(32).replace('whsec_', 'WHSEC_'),
    of(25).replaceAll('=', ''),
    `${of(24)}\n`,
    ` ${of(24)}`,
    of(24).replace(/..$/, '-_'),
    'whsec_',
    '',
  ]) {
    expect(isSecret(secret), JSON.stringify(secret)).toBe(false)
  }
})

it('each absence of a bridge is reported once', () => {
  const start = { seenAt: 1000, isTold: false }
  expect(watchBridge(start, null, 1000 + AWAY_AFTER_MS - 1).awaySince).toBeNull()
  const away = watchBridge(start, null, 1000 + AWAY_AFTER_MS)
  expect(away.awaySince).toBe(1000)
  expect(watchBridge(away.watch, null, 1000 + 9 * AWAY_AFTER_MS).awaySince).toBeNull()
  const back = watchBridge(away.watch, 10 * AWAY_AFTER_MS, 10 * AWAY_AFTER_MS + 5)
  expect(back.watch).toEqual({ seenAt: 10 * AWAY_AFTER_MS, isTold: false })
  expect(watchBridge(back.watch, null, 11 * AWAY_AFTER_MS).awaySince).toBe(10 * AWAY_AFTER_MS)
})

it('a bridge with an open but silent connection counts as away', () => {
  expect(watchBridge({ seenAt: 0, isTold: false }, 2000, 2000 + AWAY_AFTER_MS).awaySince).toBe(2000)
})

/** Counts the given numbers of rejections, one number a minute. Returns the minutes with a spike. */
function spikes(perMinute: number[]): number[] {
  let rate = newRejectionRate()
  return perMinute.flatMap((count, minute) => {
    const counted = countRejections(rate, count, 1e12 + minute * MINUTE_MS)
    rate = counted.rate
    return counted.spike ? [minute] : []
  })
}

it('100 rejections in a minute are reported as a spike, at most once an hour', () => {
  expect(spikes([99])).toEqual([])
  expect(spikes([100])).toEqual([0])
  expect(spikes([100, 5000, 100])).toEqual([0])
  expect(spikes([1000, ...Array(59).fill(0), 1000])).toEqual([0, 60])
})

it('as many rejections as usual are no spike', () => {
  expect(spikes([...Array(60).fill(50), 499])).toEqual([])
  expect(spikes([...Array(60).fill(50), 500])).toEqual([60])
  expect(spikes([...Array(60).fill(50), ...Array(180).fill(0), 100])).toEqual([240])
})

it('rejections within one minute are added up', () => {
  let rate = newRejectionRate()
  const told: number[] = []
  for (let n = 0; n < 30; n++) {
    const counted = countRejections(rate, 10, 1e12 + n * 1000)
    rate = counted.rate
    if (counted.spike) told.push(counted.spike.count)
  }
  expect(told).toEqual([100])
})
