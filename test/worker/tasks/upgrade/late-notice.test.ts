import { expect, it } from 'vitest'
import { type Lab, type LabDevice, makeLab, over, progresses, reports } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'

// A notice that the bridge had goes out when its upgrade has ended: what the device reported before says nothing any more.

/** A device that runs v1 for certain, with a notice for v2 that is still at its bridge. */
async function atBridge() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2')
  const { frame } = await lab.bridge.notice(device)
  const cancel = () => task.post(`/devices/${device.id}/cancel`)
  return { lab, device, task, frame, cancel }
}

/** A new task has nothing but a diff from v1: it must not go out. */
async function expectNoDiff(lab: Lab, device: LabDevice) {
  const task = await lab.upgradeTo('v3', {}, { kind: 'diff', sourceVersion: 'v1' })
  expect((await lab.unexpected()).map(({ payload }) => JSON.parse(payload).params)).toEqual([])
  expect((await task.device(device)).waitingFor).toBe('its version is not certain until it reports')
}

it.each([0, 70_000])('a report, then the notice, %i ms after the upgrade was cancelled', async (ms) => {
  const { lab, device, frame, cancel } = await atBridge()
  await cancel()
  if (ms > 0) moveClock(ms)
  await lab.bridge.post([reports(device, 'v1'), sent(frame), taken(frame)])
  await expectNoDiff(lab, device)
})

it('a device that was handed the same over HTTPS meanwhile, and failed', async () => {
  const { lab, device, task, frame } = await atBridge()
  expect((await over(device)('GET', '/device/v1/upgrade')).body.params.version).toBe('v2')
  await over(device)('POST', '/device/v1/progress', { step: '-1' })
  await task.reaches(device, 'failure')
  await lab.bridge.publish(frame)
  await expectNoDiff(lab, device)
})

it('a device that was handed the same over HTTPS meanwhile, was cancelled, and reported', async () => {
  const { lab, device, frame, cancel } = await atBridge()
  await over(device)('GET', '/device/v1/upgrade')
  await cancel()
  await over(device)('POST', '/device/v1/inform', { params: { version: 'v1' } })
  await lab.bridge.publish(frame)
  await expectNoDiff(lab, device)
})

it('a device that fails while the bridge has its notice once more', async () => {
  const { lab, device, task, frame } = await atBridge()
  await lab.bridge.publish(frame)
  await lab.bridge.post([reports(device, 'v1')])
  await lab.bridge.notice(device)
  await lab.bridge.post([progresses(device, -1)])
  await task.reaches(device, 'failure')
  await expectNoDiff(lab, device)
})

it('the full package is at the bridge when the device is retried: the diff of the same task is not for it', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const full = await lab.addPackage('v2')
  const diff = await lab.addPackage('v2', { kind: 'diff', sourceVersion: 'v1' })
  const task = await lab.addTask(full, { packageId: undefined, packageIds: [full, diff] })
  const { frame } = await lab.bridge.notice(device)
  await task.post(`/devices/${device.id}/cancel`)
  await task.post('/pause')
  await task.post(`/devices/${device.id}/retry`)
  await over(device)('POST', '/device/v1/inform', { params: { version: 'v1' } })
  await lab.bridge.publish(frame)
  await task.post('/resume')
  const notices = (await lab.unexpected()).map(({ payload }) => JSON.parse(payload).params)
  expect(notices.filter(({ isDiff }) => isDiff)).toEqual([])
})
