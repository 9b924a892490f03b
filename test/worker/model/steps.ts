import fc from 'fast-check'
import type { Rules } from './reference.ts'

/** A device is a number, taken modulo the count of devices. `back` counts from the latest message or notice. */
export type Step =
  | { do: 'wait'; seconds: number }
  | { do: 'outage' }
  | { do: 'evict' }
  | { do: 'ringEarly' }
  | { do: 'operate'; what: 'pause' | 'resume' | 'cancel' | 'retry' | 'retryAll' | 'nextWave' }
  | { do: 'changeRate'; to: number | null }
  | { do: 'operateDevice'; device: number; what: 'cancel' | 'retry' }
  | { do: 'progress'; device: number; step: number }
  | { do: 'version'; device: number; isTarget: boolean }
  | { do: 'presence'; device: number; event: 'subscribed' | 'connected' | 'disconnected' }
  | { do: 'repeat'; back: number }
  | { do: 'ask' | 'askHttps'; device: number }
  | { do: 'bridge'; device: number; back: number; results: ('sent' | 'taken' | 'offline' | 'returned')[] }
  | { do: 'freeze' | 'unfreeze' | 'bridgeAway' | 'bridgeBack' }

const device = fc.nat(7)
const oneOf = <T extends string>(...values: T[]) => fc.constantFrom(...values)
const stepOf = <T extends Step>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<Step> =>
  fc.record(model as never) as unknown as fc.Arbitrary<Step>

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: stepOf({
      do: oneOf('wait'),
      seconds: fc.constantFrom(0.2, 1, 10, 59, 60, 61, 100, 240),
    } as never),
  },
  { weight: 1, arbitrary: stepOf({ do: oneOf('outage') } as never) },
  { weight: 2, arbitrary: stepOf({ do: oneOf('evict') } as never) },
  { weight: 1, arbitrary: stepOf({ do: oneOf('ringEarly') } as never) },
  {
    weight: 4,
    arbitrary: stepOf({
      do: oneOf('operate'),
      what: oneOf('pause', 'resume', 'resume', 'resume', 'cancel', 'retry', 'retry', 'retryAll', 'nextWave'),
    } as never),
  },
  {
    weight: 1,
    arbitrary: stepOf({ do: oneOf('changeRate'), to: fc.constantFrom(null, 1, 30, 600) } as never),
  },
  {
    weight: 2,
    arbitrary: stepOf({ do: oneOf('operateDevice'), device, what: oneOf('cancel', 'retry') } as never),
  },
  {
    weight: 8,
    arbitrary: stepOf({
      do: oneOf('progress'),
      device,
      step: fc.constantFrom(0, 10, 60, 99, 100, 100, 100, -1, -2, -2, -3, -4),
    } as never),
  },
  { weight: 5, arbitrary: stepOf({ do: oneOf('version'), device, isTarget: fc.boolean() } as never) },
  {
    weight: 4,
    arbitrary: stepOf({
      do: oneOf('presence'),
      device,
      event: oneOf('subscribed', 'connected', 'disconnected'),
    } as never),
  },
  { weight: 3, arbitrary: stepOf({ do: oneOf('repeat'), back: fc.nat(3) } as never) },
  { weight: 3, arbitrary: stepOf({ do: oneOf('ask', 'askHttps'), device } as never) },
  {
    weight: 16,
    arbitrary: stepOf({
      do: oneOf('bridge'),
      device,
      back: fc.constantFrom(0, 0, 0, 0, 1),
      results: fc.constantFrom(
        ['sent', 'taken'],
        ['sent', 'taken'],
        ['sent', 'taken'],
        ['sent', 'taken'],
        ['taken'],
        ['sent'],
        ['sent', 'offline'],
        ['offline'],
        ['returned'],
        ['sent', 'returned'],
        ['taken', 'sent'],
      ),
    } as never),
  },
  {
    weight: 1,
    arbitrary: stepOf({ do: oneOf('freeze', 'unfreeze', 'unfreeze', 'bridgeAway', 'bridgeBack') } as never),
  },
)

const policy = fc.record({
  waves: fc.constantFrom<Rules['waves'][]>(
    undefined,
    undefined,
    [{ percent: 100, successPercent: 90, soakMinutes: 0, topUpMinutes: 60 }],
    [
      { percent: 20, successPercent: 50, soakMinutes: 1, topUpMinutes: 1 },
      { percent: 100, successPercent: 90, soakMinutes: 0, topUpMinutes: 1 },
    ],
    [
      { percent: 10, successPercent: 100, soakMinutes: 0, topUpMinutes: 2 },
      { percent: 15, successPercent: 100, soakMinutes: 0, topUpMinutes: 60 },
      { percent: 100, successPercent: 90, soakMinutes: 0, topUpMinutes: 60 },
    ],
    [
      { percent: 34, successPercent: 0, soakMinutes: 2, topUpMinutes: 1 },
      { percent: 67, successPercent: 90, soakMinutes: 0, topUpMinutes: 60 },
      { percent: 100, successPercent: 90, soakMinutes: 0, topUpMinutes: 60 },
    ],
  ),
  haltOn: fc.constantFrom(
    undefined,
    { failurePercent: 0, minFinished: 1 },
    { failurePercent: 50, minFinished: 2 },
    { failurePercent: 34, minFinished: 3 },
  ),
  autoRetry: fc.constantFrom(undefined, { times: 1, backoffMinutes: 0 }, { times: 2, backoffMinutes: 1 }),
  ratePerMinute: fc.constantFrom(undefined, undefined, 1, 7, 240),
  deviceTimeoutMinutes: fc.constantFrom(1, 3),
  confirm: oneOf('progress', 'version'),
  mismatchPushes: fc.constantFrom(0, 1, 3),
  downloadTtlSeconds: fc.constantFrom(60, 86_400),
})

/** The devices are few, so that a fault can be found by hand. `ring`: a due alarm rings after the step. */
export const scenario = (length: number) =>
  fc.record({
    policy,
    devices: fc.integer({ min: 1, max: 7 }),
    endsAfterSeconds: fc.constantFrom(null, null, 300),
    steps: fc.array(fc.record({ step, ring: fc.integer({ min: 0, max: 9 }).map((n) => n > 1) }), {
      minLength: length,
      maxLength: length,
      size: 'max',
    }),
  })
export type Scenario = ReturnType<typeof scenario> extends fc.Arbitrary<infer T> ? T : never
