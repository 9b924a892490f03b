import fc from 'fast-check'

/** A device or task is a number, taken modulo how many there are. */
export type Step =
  | { do: 'wait'; seconds: number }
  | { do: 'publish'; result: 'taken' | 'offline' | 'returned' | 'sent' }
  | { do: 'device'; device: number; what: Act; code: number }
  | { do: 'create'; task: TaskPlan }
  | { do: 'operate'; task: number; what: 'pause' | 'resume' | 'cancel' | 'retry' | 'retryAll' | 'nextWave' }
  | { do: 'operateDevice'; task: number; device: number; what: 'cancel' | 'retry' }
  | { do: 'catalogue'; device: number; what: 'move' | 'delete' | 'disable' | 'enable' | 'add' }
  | { do: 'freeze' | 'unfreeze' | 'bridgeAway' | 'bridgeBack' }

/** What a device does. `flash…`: with the notice that it heard last. */
export type Act =
  | 'start'
  | 'flash'
  | 'flashAndReport'
  | 'flashInSilence'
  | 'fail'
  | 'rollBack'
  | 'report'
  | 'reportOther'
  | 'flashByHand'
  | 'ask'
  | 'connect'
  | 'disconnect'

export interface TaskPlan {
  version: 'v1' | 'v2' | 'v3'
  packages: 'full' | 'diffs' | 'both'
  devices: 'all' | 'some'
  startsIn: number | null
  policy: Record<string, unknown>
}

const oneOf = <const T>(...values: T[]) => fc.constantFrom(...values)
const number = fc.nat(9)

const wave = (percent: number, successPercent: number, topUpMinutes: number, soakMinutes = 0) => ({
  percent,
  successPercent,
  topUpMinutes,
  soakMinutes,
})

const policy = fc
  .record({
    waves: oneOf(
      undefined,
      [wave(20, 90, 1), wave(100, 90, 1)],
      [wave(30, 50, 60), wave(60, 100, 1, 2), wave(100, 90, 60)],
      [wave(1, 90, 2), wave(100, 90, 1)],
    ),
    haltOn: oneOf(undefined, undefined, { failurePercent: 50, minFinished: 2 }),
    autoRetry: oneOf(undefined, { times: 1, backoffMinutes: 1 }),
    ratePerMinute: oneOf(undefined, undefined, undefined, 30),
    deviceTimeoutMinutes: oneOf(1, 10, 60),
    confirm: oneOf('progress', 'progress', 'version'),
    onBusy: oneOf('replace', 'replace', 'wait', 'fail'),
    dynamic: fc.boolean(),
  })
  .map((fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)))

const plan: fc.Arbitrary<TaskPlan> = fc
  .record({
    version: oneOf('v1', 'v2', 'v2', 'v3', 'v3'),
    packages: oneOf('full', 'both', 'both', 'diffs'),
    devices: oneOf('all', 'all', 'some'),
    startsIn: oneOf(null, null, null, 300),
    policy,
  })
  .map((each) => ({
    ...each,
    // Nothing leads to v1 but its full package, and only a rule takes in more devices.
    packages: each.version === 'v1' ? 'full' : each.packages,
    policy: each.devices === 'some' ? { ...each.policy, dynamic: false } : each.policy,
  }))

const acts = oneOf<Act>(
  'start',
  'flash',
  'flash',
  'flashAndReport',
  'flashAndReport',
  'flashAndReport',
  'flashInSilence',
  'fail',
  'rollBack',
  'report',
  'report',
  'reportOther',
  'flashByHand',
  'ask',
  'connect',
  'connect',
  'disconnect',
)

type Of<K extends Step['do']> = Extract<Step, { do: K }>
const some = <K extends Step['do']>(
  weight: number,
  name: K,
  fields: Record<string, fc.Arbitrary<unknown>>,
) => ({
  weight,
  arbitrary: fc.record({ do: fc.constant(name), ...fields }) as unknown as fc.Arbitrary<Of<K>>,
})

const step: fc.Arbitrary<Step> = fc.oneof(
  some(4, 'wait', { seconds: oneOf(1, 61, 61, 310, 700, 3700) }),
  some(8, 'publish', { result: oneOf('taken', 'taken', 'taken', 'taken', 'offline', 'returned', 'sent') }),
  some(16, 'device', { device: number, what: acts, code: oneOf(-1, -2, -3, -4) }),
  some(3, 'create', { task: plan }),
  some(2, 'operate', {
    task: number,
    what: oneOf('pause', 'resume', 'resume', 'cancel', 'retry', 'retryAll', 'nextWave'),
  }),
  some(1, 'operateDevice', { task: number, device: number, what: oneOf('cancel', 'retry') }),
  some(2, 'catalogue', {
    device: number,
    what: oneOf('move', 'delete', 'disable', 'enable', 'enable', 'add'),
  }),
  {
    weight: 1,
    arbitrary: fc.record({
      do: oneOf('freeze', 'unfreeze', 'bridgeAway', 'bridgeBack'),
    }) as fc.Arbitrary<Step>,
  },
)

/** `first`: the task that is there from the beginning. `versions`: what the devices report before it. */
export const scenario = (length: number) =>
  fc.record({
    first: plan,
    versions: fc.array(oneOf('v1', 'v1', 'v2', 'v3', null), { minLength: 2, maxLength: 6 }),
    /** Does the broker tell who is connected? Does it keep notices for those who are not? */
    presence: oneOf('known', 'known', 'unknown'),
    keepsNotices: fc.boolean(),
    /** Every so many-th device speaks HTTPS only; 1: there is no bridge at all. */
    httpsEvery: oneOf(0, 0, 3, 1),
    downloads: oneOf('r2', 'worker'),
    steps: fc.array(step, { minLength: length, maxLength: length, size: 'max' }),
  })
export type Scenario = ReturnType<typeof scenario> extends fc.Arbitrary<infer T> ? T : never
