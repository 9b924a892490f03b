import { afterEach, describe, expect, it, vi } from 'vitest'
import { addDevice, type LabDevice, makeLab, progresses, reports, requests, says } from '../../lab.ts'
import { meanwhile } from '../../meanwhile.ts'
import { makeRolloutFleet } from '../../rollout-fleet.ts'

// What happens in an order that nobody expects.

const MINUTE = 60_000
const HOUR = 60 * MINUTE

afterEach(() => vi.restoreAllMocks())

describe('a device that goes on after it failed here', () => {
  it.each<[string, number, number[]]>([
    ['−1', 3, [-1, 100]],
    ['−2, and tries again by itself', 3, [-2, 10, 100]],
    ['a wrong version', 0, [50]],
  ])('after %s it gets no diff from its old version', async (_, mismatchPushes, steps) => {
    const lab = await makeLab()
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const task = await lab.upgradeTo('v2', { policy: { mismatchPushes } })
    await lab.push(device)
    await lab.bridge.post(steps.map((step) => progresses(device, step)))
    if (mismatchPushes === 0) await lab.bridge.post([reports(device, 'v1'), progresses(device, 100)])
    await task.reaches(device, 'failure')
    await lab.unexpected()
    const packageIds = [await lab.addPackage('v3', { kind: 'diff', sourceVersion: 'v1' })]
    await lab.addTask('', { packageId: undefined, packageIds })
    await lab.bridge.post([requests(device, 'r')])
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([reports(device, 'v1')])
    expect((await lab.push(device)).notice.params.isDiff).toBe(1)
  })
})

it('after 100 % that a version must confirm, a device that asks gets no diff from its old version again', async () => {
  const lab = await makeLab()
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const packageIds = [await lab.addPackage('v2', { kind: 'diff', sourceVersion: 'v1' })]
  await lab.addTask('', { packageId: undefined, packageIds, policy: { confirm: 'version' } })
  await lab.push(device)
  await lab.bridge.post([progresses(device, 100), requests(device, 'r')])
  expect(await lab.unexpected()).toEqual([])
})

it('a version report that was cut off before its module is no report of the whole firmware', async () => {
  const lab = await makeLab()
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v5')])
  const cut = '{"id":"1","params":{"version":"v1","modul'
  const [result] = await lab.bridge.post([says(device, 'ota/device/inform', cut)])
  expect(result).toMatchObject({ status: 'rejected' })
  const { body } = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
  expect(body.modules).toMatchObject([{ version: 'v5' }])
})

it('a wave that fills up while its page is being sent sends to the device that was taken in', async () => {
  const fleet = await makeRolloutFleet(10)
  const startAt = new Date(Date.now() + HOUR).toISOString()
  const task = await fleet.upgradeTo('v2', {
    startAt,
    policy: { waves: [{ percent: 10 }, { percent: 100 }] },
  })
  meanwhile(fleet, async () => {
    for (const device of fleet.devices) {
      if (!/^wave/.test((await task.device(device)).waitingFor))
        await fleet.bridge.post([reports(device, 'v2')])
    }
  })
  await fleet.wait(61 * MINUTE)
  expect(await fleet.takeNotices()).toHaveLength(1)
})

it('a wave soaks on although devices join it', async () => {
  const fleet = await makeRolloutFleet(8)
  const task = await fleet.upgradeTo('v2', {
    policy: {
      dynamic: true,
      waves: [{ percent: 50, successPercent: 50, soakMinutes: 240 }, { percent: 100 }],
    },
  })
  await fleet.succeed(await fleet.takeNotices())
  for (let hour = 0; hour < 6; hour++) {
    const device = await addDevice(fleet.admin, fleet.productId, `new${hour}`)
    await fleet.wait(MINUTE)
    for (const frame of fleet.bridge.frames.splice(0)) await fleet.bridge.publish(frame)
    await fleet.succeed([device])
    await fleet.wait(59 * MINUTE)
  }
  expect((await task.get()).waves[1].openedAt).not.toBeNull()
})

it('what a device reports in another product is not held against it here', async () => {
  const fleet = await makeRolloutFleet(10)
  const { body } = await fleet.admin.call('POST', '/api/v1/products', { name: 'other' })
  const task = await fleet.upgradeTo('v2', {
    policy: { waves: [{ percent: 50 }, { percent: 100 }], haltOn: { failurePercent: 10, minFinished: 1 } },
  })
  const told = await fleet.takeNotices()
  await fleet.all(told, (device) => progresses(device, 100))
  await fleet.wait(MINUTE)
  const [device] = told as [LabDevice]
  const moved = await fleet.admin.call('PATCH', `/api/v1/devices/${device.id}`, { productId: body.id })
  expect(moved.status).toBe(200)
  await fleet.all([device], (each) => reports(each, 'x1'))
  await fleet.wait(MINUTE)
  expect(await task.get()).toMatchObject({ status: 'running', rolledBack: 0 })
})

it('a device that gets further each time is told again as often as it takes', async () => {
  const fleet = await makeRolloutFleet(1)
  const task = await fleet.upgradeTo('v2')
  const [device] = (await fleet.takeNotices()) as [LabDevice]
  for (let step = 10; step < 90; step += 10) {
    await fleet.all([device], (each) => progresses(each, step))
    await fleet.all([device], (each) => reports(each, 'v1'))
    expect(await fleet.takeNotices()).toEqual([device])
  }
  // From now on it does not.
  for (let times = 0; times < 3; times++) {
    await fleet.all([device], (each) => progresses(each, 50))
    await fleet.all([device], (each) => reports(each, 'v1'))
    await fleet.takeNotices()
  }
  await fleet.all([device], (each) => reports(each, 'v1'))
  expect((await task.device(device)).status).toBe('failure')
})
