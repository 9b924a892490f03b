import { describe, expect, it } from 'vitest'
import { makeLab } from '../../lab.ts'
import { countsOf, expectNone, makeRolloutFleet } from '../../rollout-fleet.ts'

const berlin = { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' }

/** What is wrong, a policy, and the fields that its 422 names. */
const invalid: [string, Record<string, unknown>, string[]][] = [
  [
    'percents that fall',
    { waves: [{ percent: 20 }, { percent: 10 }, { percent: 100 }] },
    ['waves.1.percent'],
  ],
  [
    'percents that stay',
    { waves: [{ percent: 50 }, { percent: 50 }, { percent: 100 }] },
    ['waves.1.percent'],
  ],
  ['a last wave of less than 100', { waves: [{ percent: 1 }, { percent: 99 }] }, ['waves.1.percent']],
  ['a wave of 0 %', { waves: [{ percent: 0 }, { percent: 100 }] }, ['waves.0.percent']],
  ['no wave', { waves: [] }, ['waves']],
  [
    'bad parts of a wave',
    {
      waves: [
        { percent: 1, successPercent: 101, soakMinutes: -1 },
        { percent: 100, soak: 1 },
      ],
    },
    ['waves.0.soakMinutes', 'waves.0.successPercent', 'waves.1.soak'],
  ],
  ['a rate of 0', { ratePerMinute: 0 }, ['ratePerMinute']],
  ['a rate of 0.5', { ratePerMinute: 0.5 }, ['ratePerMinute']],
  [
    'a halt over 100 %',
    { haltOn: { failurePercent: 101, minFinished: 0 } },
    ['haltOn.failurePercent', 'haltOn.minFinished'],
  ],
  ['a halt without its limit', { haltOn: {} }, ['haltOn.failurePercent']],
  ['a window of zero length', { window: { ...berlin, to: '01:00' } }, ['window.to']],
  ['an unknown zone', { window: { ...berlin, timeZone: 'Europe/Atlantis' } }, ['window.timeZone']],
  [
    'bad parts of a window',
    { window: { ...berlin, days: ['mon', 'funday'], from: '24:00', to: '5:00' } },
    ['window.days.1', 'window.from', 'window.to'],
  ],
  ['the same day twice', { window: { ...berlin, days: ['mon', 'mon'] } }, ['window.days']],
  ['no day', { window: { ...berlin, days: [] } }, ['window.days']],
  ['a retry of a code that is no failure', { autoRetry: { times: 1, on: [-5] } }, ['autoRetry.on.0']],
  ['a retry of nothing', { autoRetry: { times: 1, on: [] } }, ['autoRetry.on']],
  [
    'too many retries',
    { autoRetry: { times: 11, backoffMinutes: -1 } },
    ['autoRetry.backoffMinutes', 'autoRetry.times'],
  ],
  ['a timeout of 0', { deviceTimeoutMinutes: 0 }, ['deviceTimeoutMinutes']],
  ['a negative number of re-pushes', { mismatchPushes: -1 }, ['mismatchPushes']],
  ['links that live over a week', { downloadTtlSeconds: 604_801 }, ['downloadTtlSeconds']],
  ['unknown words', { onBusy: 'push', confirm: 'both', dynamic: 'yes' }, ['confirm', 'dynamic', 'onBusy']],
  ['an unknown field', { rate: 5 }, ['rate']],
  [
    'several faults',
    { ratePerMinute: -1, window: { ...berlin, to: '01:00' }, color: 'red' },
    ['color', 'ratePerMinute', 'window.to'],
  ],
]

/** The fields that a problem names, each once. */
const fieldsOf = ({ errors }: { errors: { path: string }[] }) =>
  [...new Set(errors.map(({ path }) => path))].sort()

describe('an invalid policy', () => {
  it('an invalid policy is a 422 that names each field, for a task and for its preview, and makes no task', async () => {
    const lab = await makeLab(1)
    const packageId = await lab.addPackage('v2')
    for (const [what, policy, fields] of invalid) {
      for (const path of ['/api/v1/tasks', '/api/v1/tasks/preview']) {
        const { status, body } = await lab.admin.call('POST', path, {
          packageId,
          name: what,
          devices: 'all',
          policy,
        })
        const named = fieldsOf(body)
        expect({ what, status, named }).toEqual({
          what,
          status: 422,
          named: fields.map((field) => `policy.${field}`),
        })
        for (const { message } of body.errors) expect(message).not.toBe('')
      }
    }
    expect((await lab.admin.call('GET', '/api/v1/tasks')).body.items).toEqual([])
  })

  it('a policy with `dynamic` is invalid for a list of devices', async () => {
    const lab = await makeLab(1)
    const { status, body } = await lab.admin.call('POST', '/api/v1/tasks', {
      packageId: await lab.addPackage('v2'),
      name: 'listed',
      devices: { ids: [lab.devices[0]!.id] },
      policy: { dynamic: true },
    })
    expect({ status, path: body.errors[0].path }).toEqual({ status: 422, path: 'policy.dynamic' })
  })

  it('an invalid change leaves a running task as it is', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 1 } })
    expect(await fleet.takeNotices()).toHaveLength(1)
    for (const [changes, field] of [
      [{ ratePerMinute: 0 }, 'ratePerMinute'],
      [{ haltOn: { failurePercent: 101 } }, 'haltOn.failurePercent'],
      [{ policy: { ratePerMinute: 0 } }, 'policy.ratePerMinute'],
      [{ policy: { waves: [{ percent: 100 }] } }, 'policy.waves'],
      [{ endAt: 'tomorrow' }, 'endAt'],
      [{ endAt: '9999-12-31T23:59:59Z' }, 'endAt'],
      [{ endAt: '1970-01-01T00:00:00Z' }, 'endAt'],
    ] as const) {
      const { status, body } = await task.patch(changes)
      expect({ status, named: fieldsOf(body) }).toEqual({ status: 422, named: [field] })
    }
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 999, pushed: 1 })
  })
})
