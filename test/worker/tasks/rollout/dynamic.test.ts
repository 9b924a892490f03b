import { describe, expect, it } from 'vitest'
import { addDevice, type LabDevice, over, progresses, reports, requests } from '../../lab.ts'
import { countsOf, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND

async function importRows(fleet: RolloutFleet, rows: string[]) {
  const path = `/api/v1/devices/import?productId=${fleet.productId}`
  const { body } = await fleet.admin.call('POST', path, ['number,tags', ...rows].join('\n'), {
    'content-type': 'text/csv',
  })
  expect(body.rejected).toEqual([])
  return { created: body.created, updated: body.updated }
}

const newNumbers = (count: number) => Array.from({ length: count }, (_, n) => `new${n}`)
const dynamic = { policy: { dynamic: true } }

describe('dynamic tasks', () => {
  it('a dynamic task takes in devices that are made later, within a minute, until its end', async () => {
    const fleet = await makeRolloutFleet()
    const endAt = new Date(Date.now() + 60 * MINUTE).toISOString()
    const task = await fleet.upgradeTo('v2', { ...dynamic, endAt })
    const told = await fleet.takeNotices()
    expect(told).toHaveLength(1000)
    await fleet.all(told, (device) => progresses(device, 100))
    await fleet.wait(100 * SECOND)
    // The task stays open although all its devices are done.
    expect(await task.get()).toMatchObject({ status: 'running', counts: { total: 1000, success: 1000 } })

    expect(
      await importRows(
        fleet,
        newNumbers(250).map((number) => `${number},`),
      ),
    ).toEqual({
      created: 250,
      updated: 0,
    })
    await fleet.wait(MINUTE)
    expect(await fleet.takeNotices()).toHaveLength(250)
    expect(await countsOf(task)).toEqual({ total: 1250, success: 1000, pushed: 250 })
    await fleet.wait(5 * MINUTE)
    expectNone(await fleet.takeNotices())

    await fleet.wait(53 * MINUTE)
    expect(await task.get()).toMatchObject({
      status: 'finished',
      counts: { total: 1250, success: 1000, cancelled: 250 },
    })
    await importRows(
      fleet,
      newNumbers(300).map((number) => `${number},`),
    )
    await fleet.wait(5 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect((await task.get()).counts.total).toBe(1250)
  })

  it('a dynamic task takes in devices that get its tag later, and keeps those that lose it', async () => {
    const fleet = await makeRolloutFleet()
    const tag = (from: number, to: number, tags: string) =>
      importRows(
        fleet,
        fleet.devices.slice(from, to).map(({ number }) => `${number},${tags}`),
      )
    expect(await tag(0, 400, 'eu')).toEqual({ created: 0, updated: 400 })
    const task = await fleet.upgradeTo('v2', { ...dynamic, devices: { filter: { tags: ['eu'] } } })
    expect(new Set(await fleet.takeNotices())).toEqual(new Set(fleet.devices.slice(0, 400)))
    await tag(0, 100, 'us')
    await tag(400, 700, 'eu')
    await tag(700, 800, 'us')
    await fleet.wait(MINUTE)
    expect(new Set(await fleet.takeNotices())).toEqual(new Set(fleet.devices.slice(400, 700)))
    expect(await countsOf(task)).toEqual({ total: 700, pushed: 700 })
  })

  it('a dynamic task takes in devices that later report a version of its filter', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices.slice(0, 200), (device) => reports(device, 'v1'))
    await fleet.all(fleet.devices.slice(200, 500), (device) => reports(device, 'v0'))
    const task = await fleet.upgradeTo('v2', { ...dynamic, devices: { filter: { versions: ['v1'] } } })
    expect(await fleet.takeNotices()).toHaveLength(200)
    await fleet.all(fleet.devices.slice(200, 350), (device) => reports(device, 'v1'))
    await fleet.all(fleet.devices.slice(500, 600), (device) => reports(device, 'v1'))
    await fleet.all(fleet.devices.slice(600, 700), (device) => reports(device, 'v3'))
    await fleet.wait(MINUTE)
    expect(new Set(await fleet.takeNotices())).toEqual(
      new Set([...fleet.devices.slice(200, 350), ...fleet.devices.slice(500, 600)]),
    )
    expect(await countsOf(task)).toEqual({ total: 450, pushed: 450 })
  })

  it('a dynamic task takes in devices that move to its product, get its name or report over HTTPS', async () => {
    const fleet = await makeRolloutFleet()
    const { admin, productId, devices } = fleet
    const patch = async (id: string, changes: Record<string, unknown>) =>
      expect((await admin.call('PATCH', `/api/v1/devices/${id}`, changes)).status).toBe(200)
    const { body: other } = await admin.call('POST', '/api/v1/products', { name: 'other' })
    const moved = await addDevice(admin, other.id, 'moved')
    const taskFor = (version: string, filter: Record<string, unknown>) =>
      fleet.upgradeTo(version, { ...dynamic, devices: { filter } }, { module: version })
    const tagged = await taskFor('v2', { tags: ['eu'] })
    const named = await taskFor('v3', { search: 'kitchen' })
    const reported = await taskFor('v4', { versions: ['v1'] })
    const all = await fleet.upgradeTo('v5', dynamic, { module: 'v5' })
    expect(await fleet.takeNotices()).toHaveLength(1000)

    await patch(devices[0]!.id, { tags: ['eu', 'home'] })
    await patch(devices[1]!.id, { name: 'Kitchen lamp' })
    await patch(devices[2]!.id, { name: 'Cellar lamp', tags: ['us'] })
    const report = { id: '1', params: { version: 'v1', module: 'v4' } }
    await over(devices[3]!)('POST', '/device/v1/inform', report)
    await patch(moved.id, { productId })
    await fleet.wait(MINUTE)
    const noticed = (await fleet.unexpected()).map(({ notice }) => [notice.task, notice.device])
    expect(noticed.sort()).toEqual(
      [
        [tagged.id, devices[0]!.id],
        [named.id, devices[1]!.id],
        [reported.id, devices[3]!.id],
        [all.id, moved.id],
      ].sort(),
    )
  })

  it.each([
    ['ended well', async (fleet: RolloutFleet, device: LabDevice) => fleet.succeed([device])],
    ['never got its notice', async () => {}],
  ])('a device that %s, was moved and is moved back starts clean', async (_, before) => {
    const fleet = await makeRolloutFleet(1)
    const { admin, productId } = fleet
    const [device] = fleet.devices as [LabDevice]
    const task = await fleet.upgradeTo('v2', dynamic)
    expect(await fleet.takeNotices('offline')).toEqual([device])
    await fleet.all([device], (each) => requests(each, 'r'))
    const told = await fleet.takeNotices(_ === 'ended well' ? 'taken' : 'offline')
    expect(told).toEqual([device])
    await before(fleet, device)
    const { body: other } = await admin.call('POST', '/api/v1/products', { name: 'other' })
    const move = (to: string) => admin.call('PATCH', `/api/v1/devices/${device.id}`, { productId: to })
    await task.post(`/devices/${device.id}/cancel`)
    await fleet.wait(1)
    expect((await move(other.id)).status).toBe(200)
    await fleet.wait(MINUTE)
    expectNone(await fleet.takeNotices())
    expect((await move(productId)).status).toBe(200)
    await fleet.wait(MINUTE)
    expect(await fleet.takeNotices()).toEqual([device])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', attempt: 2 })
    expect((await task.get()).counts).toMatchObject({ total: 1, pushed: 1 })
  })

  it('a device that joins a dynamic task is put in a wave, and waits until that wave opens', async () => {
    const fleet = await makeRolloutFleet()
    const waves = [{ percent: 10 }, { percent: 100 }]
    const task = await fleet.upgradeTo('v2', { policy: { dynamic: true, waves } })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(100)
    await importRows(
      fleet,
      newNumbers(1000).map((number) => `${number},`),
    )
    await fleet.wait(MINUTE)
    const joined = await fleet.takeNotices()
    const view = await task.get()
    expect(view.counts).toMatchObject({
      total: 2000,
      pushed: 100 + joined.length,
      pending: 1900 - joined.length,
    })
    expect(view.waves.map(({ devices }: { devices: number }) => devices)).toEqual([
      100 + joined.length,
      1900 - joined.length,
    ])
    // A hash puts a tenth of 1,000 in the first wave, within four standard deviations.
    expect(Math.abs(joined.length - 100)).toBeLessThan(38)
  })

  it('a task that is not dynamic takes in no device later', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2')
    expect(await fleet.takeNotices()).toHaveLength(1000)
    await importRows(
      fleet,
      newNumbers(100).map((number) => `${number},`),
    )
    await fleet.wait(5 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, pushed: 1000 })
  })
})
