import { expect, it } from 'vitest'
import { createTokenBuckets } from '../../../src/protocol/token-bucket.ts'

const clock = () => {
  let at = 0
  return {
    now: () => at,
    pass: (ms: number) => {
      at += ms
    },
  }
}

it('a name has so many at once, gets more with time, and never more than that; other names have their own', () => {
  const { now, pass } = clock()
  const buckets = createTokenBuckets({ perMinute: 60, atOnce: 3 }, now)
  const takeAll = (name: string) => {
    let count = 0
    while (buckets.take(name)) count++
    return count
  }
  expect([takeAll('a'), takeAll('b')]).toEqual([3, 3])
  expect(buckets.waitMs('a')).toBe(1_000)
  pass(1_500)
  expect(takeAll('a')).toBe(1)
  expect(buckets.waitMs('a')).toBe(500)
  pass(3_600_000)
  expect(takeAll('a')).toBe(3)
})

it('several are taken together or not at all', () => {
  const buckets = createTokenBuckets({ perMinute: 60, atOnce: 3 }, () => 0)
  expect([buckets.take('a', 4), buckets.take('a', 2), buckets.take('a', 2), buckets.take('a')]).toEqual([
    false,
    true,
    false,
    true,
  ])
})

it('turns that are still to come are given one after the other, as far as one may wait', () => {
  const buckets = createTokenBuckets({ perMinute: 60, atOnce: 1 }, () => 0)
  const reserve = () => buckets.reserve('a', 2_000)
  expect([reserve(), reserve(), reserve(), reserve()]).toEqual([0, 1_000, 2_000, undefined])
  buckets.giveBack('a')
  expect(reserve()).toBe(2_000)
})

it('a clock that goes back takes nothing away', () => {
  let at = 1_000_000
  const buckets = createTokenBuckets({ perMinute: 60, atOnce: 2 }, () => at)
  expect(buckets.take('a')).toBe(true)
  at = 0
  expect([buckets.take('a'), buckets.take('a')]).toEqual([true, false])
})
