import { exports } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, over } from '../../lab.ts'

const publishes = (device: LabDevice, topic: string, payload: string) => ({
  kind: 'message' as const,
  username: device.token,
  topic,
  payload: Buffer.from(payload, 'latin1').toString('base64'),
})

async function pushed() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  await lab.push(device)
  return { lab, device, task }
}

describe('damaged messages', () => {
  it.each([
    ['a zero at its end', '{"step":"-4","desc":"write failed"}\0', 'progress'],
    ['a text in GBK', '{"step":"-4","desc":"\xc9\xfd\xbc\xb6"}', 'progress'],
    ['its end cut off', '{"step":"-4","desc":"write fai', 'progress, damaged message'],
  ])('a failure with %s is a Failure, and stands in the history', async (_what, payload, kind) => {
    const { lab, device, task } = await pushed()
    expect(await lab.bridge.post([publishes(device, 'ota/device/progress', payload)])).toMatchObject([
      { status: 'taken' },
    ])
    expect(await task.device(device)).toMatchObject({ status: 'failure', code: -4 })
    const { events } = (await lab.admin.call('GET', `/api/v1/tasks/${task.id}/devices/${device.id}`)).body
    expect(events.at(-1)).toMatchObject({ kind })
  })

  it('the same over HTTPS', async () => {
    const { device, task } = await pushed()
    const response = await exports.default.fetch('http://edge-ota.test/device/v1/progress', {
      method: 'POST',
      headers: { authorization: `Bearer ${device.token}` },
      body: '{"step":"-4"}\0\0',
    })
    expect(response.status).toBe(200)
    expect((await task.device(device)).status).toBe('failure')
  })

  it.each(['{"step":"0x64"}', '{"step":"1e2"}', '{"step":1e2}'])('%s is no Success', async (payload) => {
    const { lab, device, task } = await pushed()
    expect(await lab.bridge.post([publishes(device, 'ota/device/progress', payload)])).toMatchObject([
      { status: 'rejected', code: 'no_step' },
    ])
    expect((await task.device(device)).status).toBe('pushed')
  })

  it('HEAD hands nothing out and changes nothing', async () => {
    const lab = await makeLab(1, {}, 0)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.unexpected()
    const response = await exports.default.fetch('http://edge-ota.test/device/v1/upgrade', {
      method: 'HEAD',
      headers: { authorization: `Bearer ${device.token}` },
    })
    expect(response.status).toBe(200)
    expect((await task.device(device)).status).toBe('pending')
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toMatchObject({ version: 'v2' })
  })
})
