import { describe, expect, it } from 'vitest'
import { caller } from '../../api.ts'
import { type LabDevice, makeLab, over, progresses, reports, requests, says, subscribes } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'

async function oneDevice(credit = 1000) {
  const lab = await makeLab(1, {}, credit)
  const [device] = lab.devices as [LabDevice]
  return { lab, device }
}

describe('a device on HTTPS alone', () => {
  it('a device on HTTPS alone reports its version, gets its notice, sends progress and succeeds', async () => {
    const { lab, device } = await oneDevice(0)
    const call = over(device)
    expect((await call('POST', '/device/v1/inform', { id: '1', params: { version: 'v1' } })).body).toEqual({
      code: 200,
    })
    expect((await call('GET', '/device/v1/upgrade?id=before')).body).toEqual({
      id: 'before',
      code: 200,
      params: {},
    })
    const task = await lab.upgradeTo('v2', {}, { extData: { key1: 'value1' } })
    await task.reaches(device, 'pending')
    const { body: notice } = await call('GET', '/device/v1/upgrade?module=default')
    expect(notice).toEqual({
      id: expect.stringMatching(/^\d{10}$/),
      code: 200,
      params: {
        version: 'v2',
        size: 11,
        url: expect.stringMatching(/^http/),
        signMethod: 'SHA256',
        sign: expect.stringMatching(/^[0-9a-f]{64}$/),
        extData: { key1: 'value1' },
      },
    })
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1, fromVersion: 'v1' })
    for (const step of [0, '50', 100]) {
      expect((await call('POST', '/device/v1/progress', { step, desc: 'x' })).status).toBe(200)
    }
    expect((await task.device(device)).status).toBe('success')
    await call('POST', '/device/v1/inform', { params: { version: 'v2' } })
    expect((await call('GET', '/device/v1/upgrade')).body).toEqual({ id: '', code: 200, params: {} })
  })

  it('a device on HTTPS gets the notice again each time it asks, and the limit of re-pushes holds', async () => {
    const { lab, device } = await oneDevice(0)
    const task = await lab.upgradeTo('v2')
    await task.reaches(device, 'pending')
    const ids: string[] = []
    const ask = async () => void ids.push((await over(device)('GET', '/device/v1/upgrade')).body.id)
    const inform = () => over(device)('POST', '/device/v1/inform', { params: { version: 'v1' } })
    await ask()
    await ask()
    await over(device)('POST', '/device/v1/progress', { step: 5 })
    await ask()
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', pushes: 3 })
    for (let push = 1; push <= 3; push++) {
      await inform()
      await inform()
      await ask()
      expect((await task.device(device)).status).toBe('upgrading')
    }
    await inform()
    expect((await task.device(device)).status).toBe('failure')
    expect(ids).toEqual([...new Set(ids)].sort())
  })

  it('a device with Basic credentials authenticates over HTTPS with both parts', async () => {
    const { lab } = await oneDevice(0)
    const credentials = { username: `u-${lab.productId}`, password: 'secret' }
    const body = { productId: lab.productId, number: 'basic', credentials }
    const made = await lab.admin.call('POST', '/api/v1/devices', body)
    const device = { id: made.body.id, number: 'basic', token: credentials.username }
    const task = await lab.upgradeTo('v2', { devices: { ids: [device.id] } })
    await task.reaches(device, 'pending')
    const get = (authorization: string) =>
      caller(undefined)('GET', '/device/v1/upgrade', undefined, { authorization })
    const basic = (password: string) => `Basic ${btoa(`${credentials.username}:${password}`)}`
    for (const wrong of [
      basic(''),
      basic('other'),
      `Bearer ${credentials.username}`,
      'Basic',
      'Basic !!!',
      '',
    ]) {
      expect((await get(wrong)).status, wrong).toBe(401)
    }
    const { status, body: notice } = await get(basic('secret'))
    expect(status).toBe(200)
    expect(notice.params.version).toBe('v2')
  })

  it('a notice that is fetched over HTTPS while the bridge has it too is one notice with one id', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2')
    const { frame, notice } = await lab.bridge.notice(device)
    const { body } = await over(device)('GET', '/device/v1/upgrade')
    expect(body.id).toBe(notice.id)
    await lab.bridge.post([sent(frame), taken(frame)])
    moveClock(120_000)
    expect(await lab.unexpected()).toEqual([])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 })
  })
})

describe('requests over MQTT', () => {
  it('a request over MQTT is answered once by "nothing is due", under its own id', async () => {
    const { lab, device } = await oneDevice()
    await lab.bridge.post([
      requests(device, '147258369'),
      says(device, 'ota/device/request', { id: 5, params: { module: 'MCU' } }),
      says(device, 'ota/device/request', {}),
    ])
    await lab.bridge.flushed()
    const topic = `ota/device/inform/${device.token}`
    expect(lab.bridge.replies.map(({ topic, payload }) => ({ topic, ...JSON.parse(payload) }))).toEqual([
      { topic, id: '147258369', code: 200, params: {} },
      { topic, id: '5', code: 200, params: {} },
      { topic, id: '', code: 200, params: {} },
    ])
  })

  it('a request over MQTT is answered by the notice, which is not sent twice while it is on its way', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([requests(device, '1')])
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([requests(device, '2'), subscribes(device)])
    await lab.bridge.post([sent(frame), taken(frame)])
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([progresses(device, 5), requests(device, '3')])
    await lab.push(device)
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', pushes: 3 })
    expect(lab.bridge.replies).toEqual([])
  })

  it('a request over MQTT is answered by the notice once the bridge has credit for it', async () => {
    const { lab, device } = await oneDevice(0)
    await lab.upgradeTo('v2')
    await lab.unexpected()
    await lab.bridge.post([requests(device, '1')])
    expect(await lab.unexpected()).toEqual([])
    expect(lab.bridge.replies).toEqual([])
    lab.bridge.grant(1)
    await lab.push(device)
  })

  it("a request that makes an older task give up its slot is answered by the newer task's notice alone", async () => {
    const { lab, device } = await oneDevice(1)
    await lab.upgradeTo('v2')
    await lab.push(device)
    const newer = await lab.upgradeTo('v3')
    await newer.reaches(device, 'pending')
    await lab.bridge.post([requests(device, '1')])
    lab.bridge.grant(5)
    expect((await lab.push(device)).notice.params.version).toBe('v3')
    expect(await lab.unexpected()).toEqual([])
    expect(lab.bridge.replies).toEqual([])
  })

  it('a request may name the module that it asks for', async () => {
    const { lab, device } = await oneDevice()
    await lab.upgradeTo('m2', {}, { module: 'MCU' })
    await lab.push(device)
    await lab.bridge.post([requests(device, '1', 'WIFI'), requests(device, '2', 'MCU')])
    expect((await lab.push(device)).notice.params.module).toBe('MCU')
    expect(lab.bridge.replies).toMatchObject([{ payload: '{"id":"1","code":200,"params":{}}' }])
  })

  it('requests of many devices at once are all answered', async () => {
    const lab = await makeLab(60)
    const [half, others] = [lab.devices.slice(0, 30), lab.devices.slice(30)]
    const task = await lab.upgradeTo('v2', { devices: { ids: half.map(({ id }) => id) } })
    const first = (await lab.unexpected()).splice(0)
    await lab.bridge.post(first.flatMap((frame) => [sent(frame), taken(frame)]))
    await lab.bridge.post(lab.devices.map((device, n) => requests(device, String(n))))
    expect((await lab.unexpected()).map(({ notice }) => notice.device).sort()).toEqual(
      half.map(({ id }) => id).sort(),
    )
    expect(lab.bridge.replies.map(({ topic }) => topic).sort()).toEqual(
      others.map(({ token }) => `ota/device/inform/${token}`).sort(),
    )
    expect((await task.get()).counts).toMatchObject({ total: 30, pushed: 30 })
  })
})

it('a request or a subscription after the upgrade has ended gets no notice', async () => {
  const { lab, device } = await oneDevice()
  const task = await lab.upgradeTo('v2')
  await lab.push(device)
  await lab.bridge.post([progresses(device, 100), reports(device, 'v2')])
  await task.becomes('finished')
  await lab.unexpected()
  await lab.bridge.post([requests(device, '9'), subscribes(device)])
  expect(await lab.unexpected()).toEqual([])
  expect(lab.bridge.replies).toHaveLength(1)
})
