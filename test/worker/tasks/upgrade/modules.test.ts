import { describe, expect, it } from 'vitest'
import { type Lab, type LabDevice, makeLab, over, progresses, reports, requests } from '../../lab.ts'
import { until } from '../../lab-clock.ts'

const detailOf = async (lab: Lab, device: LabDevice) =>
  (await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).body
const rejectionsOf = async (lab: Lab, device: LabDevice): Promise<{ items: { code: string }[] }> =>
  (await lab.admin.call('GET', `/api/v1/devices/${device.id}/rejections`)).body
const modulesOf = async (lab: Lab, device: LabDevice) =>
  (await detailOf(lab, device)).modules.map(({ module }: { module: string }) => module)

describe('a product’s word for the whole firmware is understood both ways', () => {
  async function pushed() {
    const lab = await makeLab(1, { defaultModuleParam: 'main', notifyCancel: true })
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1', 'main')])
    expect(await modulesOf(lab, device)).toEqual(['default'])
    const task = await lab.upgradeTo('v2')
    const { notice } = await lab.push(device)
    expect(notice.params.module).toBe('main')
    return { lab, device, task }
  }

  it('progress and reports that name it belong to the upgrade', async () => {
    const { lab, device, task } = await pushed()
    await lab.bridge.post([progresses(device, 50, { module: 'main' })])
    expect((await task.device(device)).status).toBe('upgrading')
    await lab.bridge.post([progresses(device, 100, { module: 'main' }), reports(device, 'v2', 'main')])
    expect((await task.device(device)).status).toBe('success')
    expect(await modulesOf(lab, device)).toEqual(['default'])
  })

  it('over HTTPS too, and a request that names it gets its notice', async () => {
    const { device, task } = await pushed()
    expect((await over(device)('GET', '/device/v1/upgrade?module=main')).body.params).toMatchObject({
      module: 'main',
    })
    await over(device)('POST', '/device/v1/progress', { step: '-1', module: 'main' })
    expect((await task.device(device)).status).toBe('failure')
  })

  it('a cancellation names it', async () => {
    const { lab, device, task } = await pushed()
    await task.post('/cancel')
    const { notice } = await lab.bridge.notice(device)
    expect(notice).toMatchObject({ code: 410, params: { version: 'v2', module: 'main' } })
  })
})

describe('a module that nothing has', () => {
  it('is found without regard to case, and the history says what the device called it', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.addTask(await lab.addPackage('v2', { module: 'MCU' }))
    await lab.push(device)
    await lab.bridge.post([progresses(device, 50, { module: 'mcu' })])
    expect((await task.device(device)).status).toBe('upgrading')
    const { events } = (await lab.admin.call('GET', `/api/v1/tasks/${task.id}/devices/${device.id}`)).body
    expect(events.at(-1)).toMatchObject({ kind: 'progress', detail: '50 at 50 (module mcu)' })
    await lab.bridge.post([reports(device, 'v2', 'mcu')])
    expect((await task.device(device)).status).toBe('success')
    expect(await modulesOf(lab, device)).toEqual(['MCU'])
  })

  it('in progress it means the one upgrade under way', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, -4, { module: 'firmware' })])
    expect(await task.device(device)).toMatchObject({ status: 'failure', code: -4 })
  })

  it('in progress without any upgrade the message is taken, counted and shown', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const taken = await lab.bridge.post([
      progresses(device, -4, { module: 'firmware' }),
      progresses(device, -4),
    ])
    expect(taken).toMatchObject([{ status: 'taken' }, { status: 'taken' }])
    expect((await over(device)('POST', '/device/v1/progress', { step: -4 })).status).toBe(200)
    await lab.bridge.idleFor(2 * 60_000)
    await until('the rejections', async () => (await rejectionsOf(lab, device)).items.length === 3)
    const codes = (await rejectionsOf(lab, device)).items.map(({ code }) => code)
    expect(new Set(codes)).toEqual(new Set(['unknown_module', 'no_upgrade']))
  })

  it('in a report it is a new module, of which a device has 32', async () => {
    const lab = await makeLab(2)
    const [device, other] = lab.devices as [LabDevice, LabDevice]
    const names = Array.from({ length: 40 }, (_, index) => `m${index}`)
    const results = await lab.bridge.post(names.map((name) => reports(device, 'v1', name)))
    expect(results.filter(({ status }) => status === 'rejected')).toMatchObject(
      Array.from({ length: 8 }, () => ({ code: 'too_many_modules' })),
    )
    expect(await modulesOf(lab, device)).toHaveLength(32)
    const again = await lab.bridge.post([reports(device, 'v2', 'm0'), reports(device, 'v2', 'one more')])
    expect(again.map(({ status }) => status)).toEqual(['taken', 'rejected'])
    expect((await over(device)('POST', '/device/v1/inform', { version: 'v1', module: 'x' })).status).toBe(422)
    expect(await lab.bridge.post([reports(other, 'v1', 'm0'), requests(other, '1', 'x')])).toMatchObject([
      { status: 'taken' },
      { status: 'taken' },
    ])
  })
})
