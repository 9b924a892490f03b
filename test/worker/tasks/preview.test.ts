import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { caller, makeClient } from '../api.ts'
import { type Lab, makeLab, reports } from '../lab.ts'

const TABLES = ['tasks', 'upgrades', 'outcomes', 'audit_entries'] as const

const preview = (lab: Lab, body: Record<string, unknown>) =>
  lab.admin.call('POST', '/api/v1/tasks/preview', { name: 'roll out', devices: 'all', ...body })

async function rows() {
  const counts = TABLES.map((table) => env.DB.prepare(`SELECT count(*) AS count FROM ${table}`))
  return (await env.DB.batch<{ count: number }>(counts)).map(({ results }) => results[0]!.count)
}

const report = (lab: Lab, versions: (string | null)[]) =>
  lab.bridge.post(
    versions.flatMap((version, index) => (version === null ? [] : [reports(lab.devices[index]!, version)])),
  )

describe('previews of tasks', () => {
  it('a preview says how many devices would be skipped and why, counts each device once, and changes nothing', async () => {
    const lab = await makeLab(20)
    await report(lab, ['v2', 'v2', 'v2', 'v1', 'v1', 'v1', 'v0', null])
    const [there, disabled] = [lab.devices[0]!, lab.devices[4]!]
    for (const { id } of [there, disabled])
      await lab.admin.call('PATCH', `/api/v1/devices/${id}`, { enabled: false })
    await lab.upgradeTo('v3', { devices: { ids: [lab.devices[3]!.id, lab.devices[10]!.id] } })
    await lab.push(lab.devices[3]!)
    await lab.push(lab.devices[10]!)
    const packageId = await lab.addPackage('v2')
    const before = await rows()
    const { status, body } = await preview(lab, { packageId })
    expect([status, body]).toEqual([
      200,
      {
        devices: 20,
        willReceive: 14,
        skipped: [
          { code: 'disabled', reason: 'disabled', count: 2, outcome: 'waits until it is enabled' },
          {
            code: 'already_on_target',
            reason: 'already on the target version',
            count: 2,
            outcome: 'succeeds without a notice',
          },
          {
            code: 'busy',
            reason: 'busy',
            count: 2,
            outcome: 'replaces the other upgrade, or waits for its end where the device has begun it',
          },
        ],
        waves: [],
        endsAt: expect.stringMatching(/Z$/),
        notReached: 0,
        bytes: 14 * 'firmware v2'.length,
        packages: [{ packageId, sourceVersion: null, devices: 14, bytes: 14 * 'firmware v2'.length }],
        warnings: [expect.objectContaining({ code: 'older_task_cut_short' })],
      },
    ])
    expect(await rows()).toEqual(before)
    expect((await lab.admin.call('GET', '/api/v1/tasks')).body.items).toHaveLength(1)
  })

  it('a preview counts for each package the devices that it fits', async () => {
    const lab = await makeLab(12)
    await report(lab, ['v1', 'v1', 'v1', 'v0', 'v0', 'other', 'v2'])
    const diff = (sourceVersion: string) => lab.addPackage('v2', { kind: 'diff', sourceVersion })
    const [from0, from1] = [await diff('v0'), await diff('v1')]
    const full = await lab.addPackage('v2')
    const counts = async (packageIds: string[]) => {
      const { body } = await preview(lab, { packageIds })
      const skipped = body.skipped.map(({ reason, count }: { reason: string; count: number }) => [
        reason,
        count,
      ])
      return { devices: body.packages.map(({ devices }: { devices: number }) => devices), skipped }
    }
    const there = ['already on the target version', 1]
    expect(await counts([from0, full, from1])).toEqual({ devices: [2, 6, 3], skipped: [there] })
    expect(await counts([from1])).toEqual({
      devices: [3],
      skipped: [there, ['wrong source version', 3], ['its version is not certain until it reports', 5]],
    })
  })

  it('a preview gives the sizes of the waves and the times at which they open', async () => {
    const lab = await makeLab(20)
    await report(lab, ['v2', 'v2', 'v2', 'v2'])
    const packageId = await lab.addPackage('v2')
    const policy = { waves: [{ percent: 25, soakMinutes: 30 }, { percent: 100 }], ratePerMinute: 1 }
    const startAt = '2030-01-01T00:00:00.000Z'
    const { body } = await preview(lab, { packageId, policy, startAt })
    expect(body).toMatchObject({
      waves: [
        { percent: 25, devices: 4, opensAt: startAt },
        { percent: 100, devices: 12, opensAt: '2030-01-01T00:33:03.000Z' },
      ],
      endsAt: '2030-01-01T00:44:14.000Z',
      notReached: 0,
    })
    const short = await preview(lab, { packageId, policy, startAt, endAt: '2030-01-01T00:34:04.000Z' })
    expect(short.body).toMatchObject({ endsAt: null, notReached: 11 })
  })

  it('a preview says what the task would do with busy devices', async () => {
    const lab = await makeLab(2)
    await lab.upgradeTo('v3')
    await lab.push(lab.devices[0]!)
    await lab.push(lab.devices[1]!)
    const packageId = await lab.addPackage('v2')
    const skipped = async (policy: Record<string, unknown>) =>
      (await preview(lab, { packageId, policy })).body.skipped
    const busy = (outcome: string) => [{ code: 'busy', reason: 'busy', count: 2, outcome }]
    expect(await skipped({ onBusy: 'wait' })).toEqual(busy('waits until the other upgrade has ended'))
    expect(await skipped({ onBusy: 'fail' })).toEqual(busy('fails: another upgrade is active'))
    const other = await lab.addPackage('v2', { module: 'modem' })
    expect((await preview(lab, { packageId: other })).body).toMatchObject({ willReceive: 2, skipped: [] })
  })

  it('a preview gives the waves the sizes that they get in the task', async () => {
    const lab = await makeLab(20)
    await report(lab, ['v2', 'v2', 'v2', 'v2', 'v2'])
    await lab.admin.call('PATCH', `/api/v1/devices/${lab.devices[0]!.id}`, { enabled: false })
    await lab.admin.call('PATCH', `/api/v1/devices/${lab.devices[9]!.id}`, { enabled: false })
    const packageId = await lab.addPackage('v2')
    const policy = { waves: [{ percent: 30 }, { percent: 31 }, { percent: 70 }, { percent: 100 }] }
    const foretold = (await preview(lab, { packageId, policy })).body
    expect(foretold.waves.map(({ devices }: { devices: number }) => devices)).toEqual([5, 0, 6, 4])
    const task = await lab.addTask(packageId, { policy })
    await lab.unexpected()
    const sizes = (waves: { devices: number }[]) => waves.map(({ devices }) => devices)
    expect(sizes((await task.get()).waves)).toEqual(sizes(foretold.waves))
  })

  it("a preview keeps to the task's window", async () => {
    const lab = await makeLab(4)
    const packageId = await lab.addPackage('v2')
    const window = { days: ['sun'], from: '02:30', to: '04:00', timeZone: 'Europe/Berlin' }
    const policy = { window, ratePerMinute: 1, waves: [{ percent: 50, soakMinutes: 60 }, { percent: 100 }] }
    const startAt = '2030-03-25T00:00:00Z'
    // In the night to that Sunday, clocks go from 02:00 to 03:00.
    expect((await preview(lab, { packageId, policy, startAt })).body).toMatchObject({
      waves: [
        { percent: 50, devices: 2, opensAt: '2030-03-31T01:00:00.000Z' },
        { percent: 100, devices: 2, opensAt: '2030-04-07T00:30:00.000Z' },
      ],
      endsAt: '2030-04-07T00:31:01.000Z',
      notReached: 0,
    })
    const endAt = '2030-03-31T01:00:00Z'
    expect((await preview(lab, { packageId, policy, startAt, endAt })).body).toMatchObject({
      waves: [{ opensAt: null }, { opensAt: null }],
      endsAt: null,
      notReached: 4,
    })
  })

  it('a preview counts the devices that the task would take', async () => {
    const lab = await makeLab(20)
    await report(lab, ['v1', 'v1'])
    const packageId = await lab.addPackage('v2')
    const count = async (devices: unknown) => (await preview(lab, { packageId, devices })).body.devices
    const [one, two] = [lab.devices[0]!, lab.devices[1]!]
    expect(await count('all')).toBe(20)
    expect(await count({ ids: [one.id, two.id, one.id] })).toBe(2)
    expect(await count({ numbers: [one.number] })).toBe(1)
    expect(await count({ filter: { versions: ['v1'] } })).toBe(2)
    expect(await count({ filter: { search: 'n001' } })).toBe(10)
  })

  it('a preview counts a list of 20,000 devices', async () => {
    const lab = await makeLab()
    const packageId = await lab.addPackage('v2')
    const numbers = Array.from({ length: 20_000 }, (_, n) => `many-${n}`)
    await env.DB.prepare(
      `INSERT INTO devices (id, tenant_id, product_id, number, access_token, enabled, created_at)
       SELECT 'dev_' || ?2 || j.value, ?1, ?2, j.value, ?2 || j.value, j.key % 4 > 0, 0 FROM json_each(?3) j`,
    )
      .bind(lab.admin.tenantId, lab.productId, JSON.stringify(numbers))
      .run()
    const counted = { devices: 20_000, willReceive: 15_000, skipped: [{ reason: 'disabled', count: 5000 }] }
    const ids = numbers.map((number) => `dev_${lab.productId}${number}`)
    expect((await preview(lab, { packageId, devices: { numbers } })).body).toMatchObject(counted)
    expect((await preview(lab, { packageId, devices: { ids } })).body).toMatchObject(counted)
  })

  it('a preview refuses what the creation of a task refuses, with the same answer', async () => {
    const lab = await makeLab()
    const other = await makeLab()
    const packageId = await lab.addPackage('v2')
    const foreign = await other.addPackage('v2')
    const window = { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' }
    const refused = async (body: Record<string, unknown>) => {
      const whole = { packageId, name: 'roll out', devices: 'all', ...body }
      const create = await lab.admin.call('POST', '/api/v1/tasks', whole)
      const { status, body: problem } = await lab.admin.call('POST', '/api/v1/tasks/preview', whole)
      expect(problem).toEqual(create.body)
      return [status, problem.code, problem.errors?.map(({ path }: { path: string }) => path)]
    }
    const invalid = (...paths: string[]) => [422, 'request.invalid', paths]
    expect(await refused({ packageId: foreign })).toEqual([404, 'package.not_found', ['packageIds.0']])
    expect(await refused({ devices: { ids: [other.devices[0]!.id] } })).toEqual([
      404,
      'device.not_found',
      ['devices.ids.0'],
    ])
    expect(await refused({ endAt: '2020-01-01T00:00:00Z' })).toEqual(invalid('endAt'))
    // An alarm cannot be set so far ahead.
    expect(await refused({ endAt: '9999-12-31T23:59:59Z' })).toEqual(invalid('endAt'))
    expect(await refused({ startAt: '2190-01-01T00:00:00Z' })).toEqual(invalid('startAt'))
    expect(await refused({ policy: { ratePerMinute: 0 } })).toEqual(invalid('policy.ratePerMinute'))
    expect(await refused({ policy: { window: { ...window, to: '01:00' } } })).toEqual(
      invalid('policy.window.to'),
    )
    expect(await refused({ policy: { window: { ...window, timeZone: 'PST' } } })).toEqual(
      invalid('policy.window.timeZone'),
    )
    expect(await refused({ packageIds: [packageId] })).toEqual(invalid('packageId'))
    expect(await refused({ name: undefined, more: 1 })).toEqual(invalid('name', 'more'))
  })

  it('a preview is for the roles that may create a task', async () => {
    const lab = await makeLab()
    const body = { packageId: await lab.addPackage('v2'), name: 'roll out', devices: 'all' }
    const status = async (role: 'viewer' | 'operator' | 'bridge') => {
      const client = await makeClient(role, lab.admin.tenantId)
      return (await client.call('POST', '/api/v1/tasks/preview', body)).status
    }
    expect(await status('viewer')).toBe(403)
    expect(await status('bridge')).toBe(403)
    expect(await status('operator')).toBe(200)
    expect((await caller(undefined)('POST', '/api/v1/tasks/preview', body)).status).toBe(401)
  })
})
