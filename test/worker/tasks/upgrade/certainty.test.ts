import { describe, expect, it } from 'vitest'
import { type Lab, type LabDevice, makeLab, over, progresses, reports, requests } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'

const MINUTE = 60_000
const UNCERTAIN = 'its version is not certain until it reports'

const diff = (lab: Lab, version: string, sourceVersion: string) =>
  lab.addPackage(version, { kind: 'diff', sourceVersion })

const runs = async (lab: Lab, device: LabDevice) =>
  (await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).body.modules[0]

/** A device that reported v1, and a task to v2 that it was told of. */
async function toldOfV2(more: Record<string, unknown> = {}) {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2', more)
  await lab.push(device)
  return { lab, device, task }
}

/** A task to v3 by diffs from v1 and v2, with or without the full package, and its preview. */
async function toV3(lab: Lab, withFull: boolean) {
  const packageIds = [await diff(lab, 'v3', 'v1'), await diff(lab, 'v3', 'v2')]
  if (withFull) packageIds.push(await lab.addPackage('v3'))
  const body = { packageIds, name: 'to v3', devices: 'all' }
  const preview = (await lab.admin.call('POST', '/api/v1/tasks/preview', body)).body
  const task = await lab.addTask('', { packageId: undefined, packageIds })
  return { preview, task, packageIds }
}

describe('the version of a device', () => {
  it('a device that took v2 by 100 % and has not reported gets no diff, neither from v1 nor from v2', async () => {
    const { lab, device, task } = await toldOfV2()
    await lab.bridge.post([progresses(device, 100)])
    await task.reaches(device, 'success')
    await lab.unexpected()
    expect(await runs(lab, device)).toMatchObject({ version: 'v1', certain: false, assumed: 'v2' })
    const { task: next, preview } = await toV3(lab, false)
    expect(preview).toMatchObject({ willReceive: 0, skipped: [{ code: 'version_uncertain', count: 1 }] })
    await lab.bridge.post([requests(device, '1')])
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expect(await lab.unexpected()).toEqual([])
    expect(await next.device(device)).toMatchObject({ status: 'pending', waitingFor: UNCERTAIN })
    await lab.bridge.post([reports(device, 'v2')])
    const { notice } = await lab.push(device)
    expect(notice.params).toMatchObject({ version: 'v3', isDiff: 1 })
    expect((await runs(lab, device)).certain).toBe(true)
  })

  it('a device that took v2 by 100 % and has not reported gets the full package if there is one', async () => {
    const { lab, device, task } = await toldOfV2()
    await lab.bridge.post([progresses(device, 100)])
    await task.reaches(device, 'success')
    await lab.unexpected()
    const { preview, packageIds } = await toV3(lab, true)
    expect(
      preview.packages.find((pkg: { packageId: string }) => pkg.packageId === packageIds[2]),
    ).toMatchObject({
      devices: 1,
    })
    const { notice } = await lab.push(device)
    expect(notice.params).not.toHaveProperty('isDiff')
  })

  it('an emergency task back to v1 reaches a device that took v2 by 100 % and has not reported', async () => {
    const { lab, device, task } = await toldOfV2()
    await lab.bridge.post([progresses(device, 100)])
    await task.reaches(device, 'success')
    await lab.unexpected()
    const packageId = await lab.addPackage('v1')
    const preview = await lab.admin.call('POST', '/api/v1/tasks/preview', {
      packageId,
      name: 'back',
      devices: 'all',
    })
    expect(preview.body).toMatchObject({ willReceive: 1, skipped: [] })
    const back = await lab.addTask(packageId)
    const { notice } = await lab.push(device)
    expect(notice.params.version).toBe('v1')
    await lab.bridge.post([reports(device, 'v1')])
    await back.reaches(device, 'success')
  })

  it.each([
    [
      'cancelled at 90 %',
      async (lab: Lab, device: LabDevice, task: { post: (path: string) => Promise<unknown> }) => {
        await lab.bridge.post([progresses(device, 90)])
        await task.post(`/devices/${device.id}/cancel`)
      },
    ],
    [
      'timed out at 90 %',
      async (lab: Lab, device: LabDevice) => {
        await lab.bridge.post([progresses(device, 90)])
        await lab.bridge.idleFor(62 * MINUTE)
      },
    ],
    [
      'cancelled when Pushed',
      async (_: Lab, device: LabDevice, task: { post: (path: string) => Promise<unknown> }) => {
        await task.post(`/devices/${device.id}/cancel`)
      },
    ],
  ])('a device whose upgrade was %s gets no diff until it reports', async (_, ends) => {
    const { lab, device, task } = await toldOfV2()
    await ends(lab, device, task)
    await lab.unexpected()
    expect(await runs(lab, device)).toMatchObject({ version: 'v1', certain: false, assumed: null })
    const { task: next } = await toV3(lab, false)
    await lab.bridge.post([requests(device, '1')])
    expect(await lab.unexpected()).toEqual([])
    expect((await next.device(device)).waitingFor).toBe(UNCERTAIN)
    await lab.bridge.post([reports(device, 'v1')])
    expect((await lab.push(device)).notice.params).toMatchObject({ version: 'v3', isDiff: 1 })
  })

  it('a device that said −4 runs for certain what it reported before', async () => {
    const { lab, device, task } = await toldOfV2()
    await lab.bridge.post([progresses(device, -4)])
    await task.reaches(device, 'failure')
    await lab.unexpected()
    expect(await runs(lab, device)).toMatchObject({ version: 'v1', certain: true, assumed: null })
    await toV3(lab, false)
    expect((await lab.push(device)).notice.params).toMatchObject({ version: 'v3', isDiff: 1 })
  })

  it('a −4 does not make certain what an upgrade before it left uncertain', async () => {
    const { lab, device, task } = await toldOfV2()
    await lab.bridge.post([progresses(device, 90)])
    await task.post(`/devices/${device.id}/cancel`)
    await lab.unexpected()
    const second = await lab.upgradeTo('v2.1')
    await lab.push(device)
    await lab.bridge.post([progresses(device, -4)])
    await second.reaches(device, 'failure')
    await lab.unexpected()
    expect((await runs(lab, device)).certain).toBe(false)
  })

  it('a notice that goes out again in an attempt names the package that was chosen first', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    await toV3(lab, true)
    const first = (await lab.push(device)).notice
    expect(first.params).toHaveProperty('isDiff')
    await lab.bridge.post([progresses(device, 40), requests(device, '1')])
    const again = (await lab.push(device)).notice
    expect(again.params.sign).toBe(first.params.sign)
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params.sign).toBe(first.params.sign)
  })

  it('a notice that was returned chooses its package anew if the device reports another version meanwhile', async () => {
    const lab = await makeLab()
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const packageIds = [
      await lab.addPackage('v3', { kind: 'diff', sourceVersion: 'v1' }),
      await lab.addPackage('v3', { kind: 'diff', sourceVersion: 'v2' }),
      await lab.addPackage('v3'),
    ]
    await lab.addTask('', { packageId: undefined, packageIds })
    const { frame, notice } = await lab.bridge.notice(device)
    expect(notice.params.isDiff).toBe(1)
    // It was flashed by hand while its notice waited in the bridge.
    await lab.bridge.post([reports(device, 'v1.5'), taken(frame, 'returned')])
    const again = await lab.bridge.notice(device)
    expect(again.notice.params).not.toHaveProperty('isDiff')
    expect(Number(again.notice.id)).toBeGreaterThan(Number(notice.id))
    await lab.bridge.publish(again.frame)
  })

  it('a device that reported after its last notice, and whose upgrade is cancelled then, gets no diff: it may still do as it was told', async () => {
    const lab = await makeLab()
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.admin.call('POST', `/api/v1/products/${lab.productId}/freeze`)
    await lab.bridge.post([reports(device, 'v1')])
    await task.post(`/devices/${device.id}/cancel`)
    await lab.admin.call('POST', `/api/v1/products/${lab.productId}/unfreeze`)
    const packageIds = [await diff(lab, 'v3', 'v1'), await lab.addPackage('v3')]
    await lab.addTask('', { packageId: undefined, packageIds })
    expect((await lab.push(device)).notice.params).not.toHaveProperty('isDiff')
  })

  it('nor is it brought away from the target of a newer task', async () => {
    const lab = await makeLab()
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.upgradeTo('v1', { policy: { onBusy: 'fail' } })
    await lab.admin.call('POST', `/api/v1/products/${lab.productId}/freeze`)
    await lab.bridge.post([reports(device, 'v1')])
    await older.post(`/devices/${device.id}/cancel`)
    await older.post(`/devices/${device.id}/retry`)
    await lab.admin.call('POST', `/api/v1/products/${lab.productId}/unfreeze`)
    // The newer task may tell it, the older one may not.
    const sent = await lab.unexpected()
    expect(sent.filter(({ notice }) => notice.task === older.id)).toEqual([])
    expect((await older.device(device)).description).toMatch(/^superseded by/)
  })

  it('a device that reports just before its notice reaches it is never sent the same diff again', async () => {
    const lab = await makeLab()
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const packageIds = [
      await lab.addPackage('v3', { kind: 'diff', sourceVersion: 'v1' }),
      await lab.addPackage('v3'),
    ]
    await lab.addTask('', { packageId: undefined, packageIds })
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([reports(device, 'v1.5'), sent(frame), taken(frame)])
    await lab.bridge.post([requests(device, 'r')])
    expect((await lab.push(device)).notice.params).not.toHaveProperty('isDiff')
  })

  it('a device that was moved has no certain version until it reports in its new product, and none when moved back', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const other = await lab.admin.call('POST', '/api/v1/products', { name: 'desk' })
    const move = (productId: string) => lab.admin.call('PATCH', `/api/v1/devices/${device.id}`, { productId })
    expect((await move(other.body.id)).status).toBe(200)
    expect((await runs(lab, device)).certain).toBe(false)
    expect((await move(lab.productId)).status).toBe(200)
    expect((await runs(lab, device)).certain).toBe(false)
    await lab.bridge.post([reports(device, 'v1')])
    expect((await runs(lab, device)).certain).toBe(true)
  })
})
