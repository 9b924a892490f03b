import { expect, it } from 'vitest'
import { makeLab, progresses, reports, sha256 } from '../../lab.ts'

it('a device is upgraded, from its notice to Success', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [(typeof lab.devices)[0]]
  await lab.bridge.post([reports(device, 'v1.0.0')])
  const task = await lab.addTask(await lab.addPackage('v1.1.0', { extData: { key1: 'value1' } }))

  const { frame, notice } = await lab.bridge.notice(device)
  expect(frame.topic).toBe(`ota/device/inform/${device.token}`)
  expect(notice).toEqual({
    id: expect.stringMatching(/^\d{10}$/),
    code: 200,
    params: {
      version: 'v1.1.0',
      size: 15,
      url: expect.stringContaining('X-Amz-Signature='),
      signMethod: 'SHA256',
      sign: sha256('firmware v1.1.0'),
      extData: { key1: 'value1' },
    },
  })
  await lab.bridge.publish(frame)
  await task.reaches(device, 'pushed')
  await lab.bridge.post([progresses(device, 10), progresses(device, 60)])
  expect(await task.device(device)).toMatchObject({
    status: 'upgrading',
    step: 60,
    fromVersion: 'v1.0.0',
    pushes: 1,
  })
  await lab.bridge.post([progresses(device, '100'), reports(device, 'v1.1.0')])
  await task.reaches(device, 'success')
  const { counts } = await task.get()
  expect(counts).toEqual({
    total: 1,
    pending: 0,
    pushed: 0,
    upgrading: 0,
    success: 1,
    failure: 0,
    cancelled: 0,
  })
})
