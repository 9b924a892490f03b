import { expect, it } from 'vitest'
import { linkSeconds } from '../../../../src/tasks/rules/rollout.ts'

const at = (time: string) => Date.parse(`2032-01-06T${time}Z`)
const window = { from: '01:00', to: '05:00', timeZone: 'UTC' }
const policy = { window } as never
const free = {} as never
const DAY = 86_400

it.each([
  ['an hour before its window closes, an hour', { policy, endAt: null }, '04:00:00', 3600],
  ['ten minutes before, ten minutes', { policy, endAt: null }, '04:50:00.500', 599],
  [
    'for a device that asks outside the window, as long as it is set',
    { policy, endAt: null },
    '06:00:00',
    DAY,
  ],
  ['no longer than the task', { policy: free, endAt: at('04:00:30') }, '04:00:00', 30],
  ['no longer than the earlier of the two', { policy, endAt: at('04:30:00') }, '04:00:00', 1800],
  [
    'after the end, for a device that goes on, as long as it is set',
    { policy: free, endAt: at('03:00:00') },
    '04:00:00',
    DAY,
  ],
  ['in the last second, a second', { policy, endAt: null }, '04:59:59.900', 1],
  ['without either, as long as it is set', { policy: free, endAt: null }, '04:00:00', DAY],
])('a link lives %s', (_what, spec, time, seconds) => {
  expect(linkSeconds(spec, DAY, at(time))).toBe(seconds)
})
