import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, over, progresses, reports, requests, says, subscribes } from '../../lab.ts'
import { makeBridge } from '../../lab-bridge.ts'

describe('two modules of one device', () => {
  it('two modules of a device are upgraded at once, and progress without a module is for the whole firmware', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1'), reports(device, 'm1', 'MCU')])
    const whole = await lab.upgradeTo('v2')
    const first = await lab.push(device)
    await lab.bridge.post([progresses(device, 5)])
    expect(await whole.device(device)).toMatchObject({ status: 'upgrading', step: 5, module: 'default' })
    const part = await lab.upgradeTo('m2', {}, { module: 'MCU' })
    const second = await lab.push(device)
    expect(first.notice.params).not.toHaveProperty('module')
    expect(second.notice.params).toMatchObject({ module: 'MCU', version: 'm2' })
    await lab.bridge.post([progresses(device, 20), progresses(device, 30, { module: 'MCU' })])
    expect(await whole.device(device)).toMatchObject({ step: 20 })
    expect(await part.device(device)).toMatchObject({ step: 30, status: 'upgrading', fromVersion: 'm1' })
    await lab.bridge.post([reports(device, 'm2', 'MCU')])
    expect((await part.device(device)).status).toBe('success')
    expect((await whole.device(device)).status).toBe('upgrading')
    await lab.unexpected()
    await lab.bridge.post([progresses(device, 100, { module: null })])
    expect((await whole.device(device)).status).toBe('success')
    await lab.unexpected()
    // Both have ended, and a report without a module is still for the whole firmware.
    await lab.bridge.post([reports(device, 'v1')])
    expect(await whole.device(device)).toMatchObject({ rolledBack: true })
    expect(await part.device(device)).toMatchObject({ rolledBack: false })
  })

  it("progress without a module is for the device's one active upgrade", async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const part = await lab.upgradeTo('m2', {}, { module: 'MCU' })
    await lab.push(device)
    await lab.bridge.post([says(device, 'ota/device/progress', { step: '100', desc: 'done' })])
    expect(await part.device(device)).toMatchObject({ status: 'success', description: 'done' })
  })

  it('a device may ask for one module, or for whatever is due', async () => {
    const lab = await makeLab(1, { defaultModuleParam: 'main' }, 0)
    const [device] = lab.devices as [LabDevice]
    const part = await lab.upgradeTo('m2', {}, { module: 'MCU' })
    await part.reaches(device, 'pending')
    const get = async (query: string) => (await over(device)('GET', `/device/v1/upgrade${query}`)).body.params
    expect(await get('?module=WIFI')).toEqual({})
    expect(await get('?module=default')).toEqual({})
    expect(await get('')).toMatchObject({ module: 'MCU' })
    const whole = await lab.upgradeTo('v2')
    await whole.reaches(device, 'pending')
    expect(await get('')).toMatchObject({ version: 'v2', module: 'main' })
    expect(await get('?module=MCU')).toMatchObject({ version: 'm2', module: 'MCU' })
  })
})

describe('a differential package', () => {
  it('a differential package goes only to a device on its source version, as soon as the device reports that version', async () => {
    const lab = await makeLab(3)
    const [onSource, other, never] = lab.devices as [LabDevice, LabDevice, LabDevice]
    await lab.bridge.post([reports(onSource, 'v1'), reports(other, 'v0')])
    const task = await lab.upgradeTo('v2', {}, { kind: 'diff', sourceVersion: 'v1', signMethod: 'MD5' })
    const { notice } = await lab.push(onSource)
    expect(notice.params).toMatchObject({
      isDiff: 1,
      signMethod: 'MD5',
      sign: expect.stringMatching(/^[0-9a-f]{32}$/),
    })
    await lab.bridge.post([subscribes(other), subscribes(never), requests(other, '4'), reports(other, 'v0')])
    expect((await over(never)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expect(await lab.unexpected()).toEqual([])
    expect((await task.device(other)).waitingFor).toBe('the package is a diff from v1')
    await lab.bridge.post([reports(other, 'v1')])
    await lab.push(other)
    await lab.bridge.post([reports(never, 'v1')])
    await lab.push(never)
  })
})

describe('numbers that cannot be topics', () => {
  it('a device whose number cannot be a topic gets its notices on the first topic family', async () => {
    const lab = await makeLab(1)
    const { body } = await lab.admin.call('POST', '/api/v1/devices', {
      productId: lab.productId,
      number: 'no 1/#',
    })
    const device = { id: body.id, number: body.number, token: body.accessToken }
    await lab.bridge.post([says(device, 'ota/devices/inform', { params: { version: 'v1' } })])
    await lab.upgradeTo('v2')
    expect((await lab.push(device)).frame.topic).toBe(`ota/device/inform/${device.token}`)
  })

  it('a number that two devices of one bridge share is no topic, while devices of different bridges may share one', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const make = async (bridge: string) => {
      const product = await lab.admin.call('POST', '/api/v1/products', { name: bridge, bridge })
      const body = { productId: product.body.id, number: device.number }
      expect((await lab.admin.call('POST', '/api/v1/devices', body)).status).toBe(201)
    }
    await lab.bridge.post([says(device, 'ota/devices/inform', { params: { version: 'v1' } })])
    await makeBridge(lab.admin.tenantId, 'second')
    await make('second')
    await lab.upgradeTo('v2')
    expect((await lab.push(device)).frame.topic).toBe(`ota/devices/inform/${device.number}`)
    await make('default')
    await lab.bridge.post([
      reports(device, 'v1'),
      says(device, 'ota/devices/inform', { params: { version: 'v1' } }),
    ])
    expect((await lab.push(device)).frame.topic).toBe(`ota/device/inform/${device.token}`)
  })
})
