import { describe, expect, it } from 'vitest'
import type { Notice } from '../../../../src/protocol/device.ts'
import { type Lab, makeLab, over, reports } from '../../lab.ts'
import { countsOf, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

/** Of 1,000 devices 300 run v1, 250 v2 and 200 v3; 250 have never reported. */
async function mixedFleet(): Promise<RolloutFleet> {
  const fleet = await makeRolloutFleet()
  const run = (from: number, to: number, version: string) =>
    fleet.all(fleet.devices.slice(from, to), (device) => reports(device, version))
  await run(0, 300, 'v1')
  await run(300, 550, 'v2')
  await run(550, 750, 'v3')
  return fleet
}

const diffFrom = (fleet: RolloutFleet, sourceVersion: string) =>
  fleet.addPackage('v4', { kind: 'diff', sourceVersion })

interface NoticeGroup {
  isDiff: boolean
  numbers: string[]
}

/** Takes the notices since the last call and groups their devices by the file that they link to. */
async function takeGroups(fleet: RolloutFleet): Promise<NoticeGroup[]> {
  const frames = [...(await fleet.unexpected())]
  await fleet.takeNotices()
  const numberOf = new Map(fleet.devices.map(({ id, number }) => [id, number]))
  const told = frames.map(({ notice, payload }) => ({
    number: numberOf.get(notice.device)!,
    params: (JSON.parse(payload) as Notice).params,
  }))
  return [...Map.groupBy(told, ({ params }) => pathOf(params)).values()]
    .map((list) => ({
      isDiff: list[0]!.params.isDiff === 1,
      numbers: list.map(({ number }) => number).sort(),
    }))
    .sort((a, b) => (a.numbers[0]! < b.numbers[0]! ? -1 : 1))
}

const pathOf = ({ url }: Notice['params']) => new URL(url).pathname

const addTask = (lab: Lab, packageIds: string[]) =>
  lab.addTask(packageIds[0]!, { packageId: undefined, packageIds })

const numbers = (fleet: RolloutFleet, from: number, to: number) =>
  fleet.devices
    .slice(from, to)
    .map(({ number }) => number)
    .sort()

describe('tasks of several packages', () => {
  it('a task of two diffs and the full package sends each of 1,000 devices the package that fits it', async () => {
    const fleet = await mixedFleet()
    const packageIds = [
      await diffFrom(fleet, 'v1'),
      await diffFrom(fleet, 'v2'),
      await fleet.addPackage('v4'),
    ]
    const body = { packageIds, name: 'three', devices: 'all' }
    const preview = await fleet.admin.call('POST', '/api/v1/tasks/preview', body)
    expect(preview.body.packages.map(({ devices }: { devices: number }) => devices)).toEqual([300, 250, 450])
    const task = await addTask(fleet, packageIds)
    expect(await takeGroups(fleet)).toEqual([
      { isDiff: true, numbers: numbers(fleet, 0, 300) },
      { isDiff: true, numbers: numbers(fleet, 300, 550) },
      { isDiff: false, numbers: numbers(fleet, 550, 1000) },
    ])
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 1000 })
  })

  it('a task of diffs alone lets the devices that no diff fits wait, and says why', async () => {
    const fleet = await mixedFleet()
    const packageIds = [await diffFrom(fleet, 'v1'), await diffFrom(fleet, 'v2')]
    const task = await addTask(fleet, packageIds)
    expect(await takeGroups(fleet)).toEqual([
      { isDiff: true, numbers: numbers(fleet, 0, 300) },
      { isDiff: true, numbers: numbers(fleet, 300, 550) },
    ])
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 450, pushed: 550 })
    const [other, unknown] = [fleet.devices[600]!, fleet.devices[900]!]
    for (const [device, why] of [
      [other, 'the packages are diffs from v1, v2'],
      [unknown, 'its version is not certain until it reports'],
    ] as const) {
      expect((await task.device(device)).waitingFor).toBe(why)
      expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    }
    // A hundred of them report the source version of a diff, and get that diff.
    await fleet.all(fleet.devices.slice(900), (device) => reports(device, 'v2'))
    expect(await takeGroups(fleet)).toEqual([{ isDiff: true, numbers: numbers(fleet, 900, 1000) }])
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 350, pushed: 650 })
  })

  it('each notice links to the file of its own package', async () => {
    const lab = await makeLab(2)
    const [one, two] = [lab.devices[0]!, lab.devices[1]!]
    await lab.bridge.post([reports(one, 'v1'), reports(two, 'v2')])
    const packageIds = [
      await lab.addPackage('v4', { kind: 'diff', sourceVersion: 'v1' }),
      await lab.addPackage('v4', { kind: 'diff', sourceVersion: 'v2', signMethod: 'MD5' }),
    ]
    await addTask(lab, packageIds)
    const { notice: first } = await lab.bridge.notice(one)
    const { notice: second } = await lab.bridge.notice(two)
    expect([first.params.signMethod, second.params.signMethod]).toEqual(['SHA256', 'MD5'])
    expect(pathOf(first.params)).not.toBe(pathOf(second.params))
  })
})

describe('packages that do not belong together', () => {
  it('a task of packages that do not belong together is a 422 that names each of them', async () => {
    const lab = await makeLab(1)
    const full = await lab.addPackage('v4')
    const diff = await lab.addPackage('v4', { kind: 'diff', sourceVersion: 'v1' })
    const otherVersion = await lab.addPackage('v5')
    const otherModule = await lab.addPackage('v4', { module: 'MCU' })
    const { body: product } = await lab.admin.call('POST', '/api/v1/products', { name: 'other' })
    const otherProduct = await lab.addPackage('v4', { productId: product.id })
    const create = async (packageIds: string[]) => {
      const { status, body } = await lab.admin.call('POST', '/api/v1/tasks', {
        packageIds,
        name: 'mixed',
        devices: 'all',
      })
      return { status, errors: body.errors }
    }
    expect(await create([full, otherProduct, otherModule, diff, otherVersion, full])).toEqual({
      status: 422,
      errors: [
        { path: 'packageIds.1', message: 'must be of the same product as the first' },
        { path: 'packageIds.2', message: 'must be for the same module as the first' },
        { path: 'packageIds.4', message: 'must be of the same version as the first' },
        { path: 'packageIds.5', message: 'must not be named twice' },
      ],
    })
    expect(await create([full, 'pkg_nobody'])).toEqual({
      status: 404,
      errors: [{ path: 'packageIds.1', message: 'no such package' }],
    })
    const { body: empty } = await lab.admin.call('POST', '/api/v1/packages', {
      productId: lab.productId,
      name: 'no file',
      version: 'v4',
      kind: 'diff',
      sourceVersion: 'v2',
    })
    const recalled = await lab.addPackage('v4', { kind: 'diff', sourceVersion: 'v3' })
    await lab.admin.call('POST', `/api/v1/packages/${recalled}/recall`)
    for (const [unfit, message] of [
      [empty.id, 'has no file yet'],
      [recalled, 'was recalled'],
    ]) {
      const errors = [{ path: 'packageIds.1', message }]
      expect(await create([full, unfit])).toEqual({ status: 409, errors })
    }
    expect((await create([])).status).toBe(422)
    const both = await lab.admin.call('POST', '/api/v1/tasks', {
      packageId: full,
      packageIds: [full],
      name: 'both',
      devices: 'all',
    })
    expect([both.status, both.body.errors[0].path]).toEqual([422, 'packageId'])
    const noSource = await lab.admin.call('POST', '/api/v1/packages', {
      productId: lab.productId,
      name: 'firmware',
      version: 'v6',
      kind: 'diff',
    })
    expect([noSource.status, noSource.body.errors[0].path]).toEqual([422, 'sourceVersion'])
  })
})
