import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { type Lab, makeLab, reports } from './lab.ts'

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

describe('a preview', () => {
  it('says who would be skipped and why, each device once, and changes nothing', async () => {
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
          { reason: 'disabled', count: 2 },
          { reason: 'already on the target version', count: 2 },
          { reason: 'busy', count: 2 },
        ],
        waves: [],
        endsAt: expect.stringMatching(/Z$/),
        notReached: 0,
        bytes: 14 * 'firmware v2'.length,
        packages: [{ packageId, sourceVersion: null, devices: 14, bytes: 14 * 'firmware v2'.length }],
      },
    ])
    expect(await rows()).toEqual(before)
    expect((await lab.admin.call('GET', '/api/v1/tasks')).body.items).toHaveLength(1)
  })

  it('counts for each package the devices that it fits', async () => {
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
    expect(await counts([from1])).toEqual({ devices: [3], skipped: [there, ['wrong source version', 8]] })
  })

  it('gives the waves their sizes and times', async () => {
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

  it('takes the devices that the task would take', async () => {
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

  it('refuses what the creation refuses', async () => {
    const lab = await makeLab()
    const other = await makeLab()
    const packageId = await lab.addPackage('v2')
    const refused = async (body: Record<string, unknown>) =>
      (await preview(lab, { packageId, ...body })).status
    expect(await refused({ packageId: await other.addPackage('v2') })).toBe(404)
    expect(await refused({ policy: { ratePerMinute: 0 } })).toBe(422)
    expect(await refused({ endAt: '2020-01-01T00:00:00Z' })).toBe(422)
    expect(await refused({ devices: { ids: [other.devices[0]!.id] } })).toBe(404)
    const { body } = await other.admin.call('POST', '/api/v1/tasks/preview', {
      ...{ packageId, name: 'x', devices: 'all' },
    })
    expect(body.code).toBe('package.not_found')
  })
})
