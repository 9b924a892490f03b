import { describe, expect, it } from 'vitest'
import { type LabDevice, type LabTask, progresses, reports } from '../../lab.ts'
import { moveClock } from '../../lab-clock.ts'
import { makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000

/** Links through the Worker stop while the task is paused or its product frozen. */
const stops: [string, (fleet: RolloutFleet, task: LabTask, isStopped: boolean) => Promise<unknown>][] = [
  ['paused', (_, task, isStopped) => task.post(isStopped ? '/pause' : '/resume')],
  [
    'frozen',
    ({ admin, productId }, _, isStopped) =>
      admin.call('POST', `/api/v1/products/${productId}/${isStopped ? 'freeze' : 'unfreeze'}`),
  ],
]

async function upgrading(policy: Record<string, unknown> = {}, downloads = 'worker') {
  const fleet = await makeRolloutFleet(1, { downloads })
  const task = await fleet.upgradeTo('v2', { policy: { deviceTimeoutMinutes: 60, ...policy } })
  const [device] = (await fleet.takeNotices()) as [LabDevice]
  await fleet.all([device], (each) => progresses(each, 10))
  return { fleet, task, device, status: async () => (await task.device(device)).status }
}

describe.each(stops)('while its links are stopped: the task or its product is %s', (_, stop) => {
  it('−2 is no Failure, also once they work again, and the device is told anew', async () => {
    const { fleet, task, device, status } = await upgrading({ mismatchPushes: 2 })
    await fleet.wait(2 * MINUTE)
    await stop(fleet, task, true)
    await fleet.all([device], (each) => progresses(each, -2))
    expect(await status()).toBe('upgrading')
    await stop(fleet, task, false)
    expect(await fleet.takeNotices()).toEqual([device])

    await fleet.wait(2 * MINUTE)
    await stop(fleet, task, true)
    await fleet.wait(2 * MINUTE)
    await stop(fleet, task, false)
    await fleet.all([device], (each) => progresses(each, -2))
    expect(await status()).toBe('upgrading')
    expect(await fleet.takeNotices()).toEqual([device])
    // The links of this notice were never stopped.
    await fleet.wait(2 * MINUTE)
    await fleet.all([device], (each) => progresses(each, -2))
    expect(await status()).toBe('failure')
  })

  it('−2 counts among the few notices that go out again', async () => {
    const { fleet, task, device, status } = await upgrading({ mismatchPushes: 0 })
    await stop(fleet, task, true)
    await fleet.all([device], (each) => progresses(each, -2))
    expect(await status()).toBe('failure')
  })

  it('the silence of a device does not count', async () => {
    const { fleet, task, status } = await upgrading()
    await fleet.wait(40 * MINUTE)
    await stop(fleet, task, true)
    await fleet.wait(300 * MINUTE)
    expect(await status()).toBe('upgrading')
    await stop(fleet, task, false)
    await fleet.wait(19 * MINUTE)
    expect(await status()).toBe('upgrading')
    await fleet.wait(2 * MINUTE + 15 * MINUTE)
    expect(await status()).toBe('failure')
  })

  it('links of R2 go on working: −2 is a Failure, and silence counts', async () => {
    const { fleet, task, device, status } = await upgrading({}, 'r2')
    await stop(fleet, task, true)
    await fleet.all([device], (each) => progresses(each, -2))
    expect(await status()).toBe('failure')
    const other = await upgrading({}, 'r2')
    await stop(other.fleet, other.task, true)
    await other.fleet.wait(62 * MINUTE)
    expect(await other.status()).toBe('failure')
  })
})

describe('a disabled device', () => {
  it('does not time out: nobody listens to it. Its silence counts from when it is enabled', async () => {
    const { fleet, device, status } = await upgrading()
    const enable = (enabled: boolean) =>
      fleet.admin.call('PATCH', `/api/v1/devices/${device.id}`, { enabled })
    await enable(false)
    await fleet.wait(200 * MINUTE)
    expect(await status()).toBe('upgrading')
    await enable(true)
    await fleet.wait(58 * MINUTE)
    expect(await status()).toBe('upgrading')
    await fleet.wait(20 * MINUTE)
    expect(await status()).toBe('failure')
  })
})

describe('a window and an end', () => {
  it('no link and no notice lives longer than the window that is open', async () => {
    const fleet = await makeRolloutFleet(1)
    moveClock(Date.parse('2032-01-06T04:50:00Z') - Date.now())
    await fleet.bridge.post([])
    await fleet.upgradeTo('v2', { policy: { window: { from: '01:00', to: '05:00', timeZone: 'UTC' } } })
    const [frame] = await fleet.unexpected()
    expect(frame!.expiresInSeconds).toBeLessThanOrEqual(600)
    const { url } = JSON.parse(frame!.payload).params
    expect(Number(new URL(url).searchParams.get('X-Amz-Expires'))).toBeLessThanOrEqual(600)
  })
})

describe('reports after a stop', () => {
  it('a device that says its version goes on as ever', async () => {
    const { fleet, task, device, status } = await upgrading()
    await task.post('/pause')
    await fleet.all([device], (each) => reports(each, 'v2'))
    expect(await status()).toBe('success')
  })
})
