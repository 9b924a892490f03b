import { describe, expect, it } from 'vitest'
import { type LabDevice, progresses, reports } from '../../lab.ts'
import type { Item } from '../../lab-bridge.ts'
import { countsOf, expectNone, makeRolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000
const policy = {
  waves: [{ percent: 10 }, { percent: 100 }],
  haltOn: { failurePercent: 10, minFinished: 20 },
  deviceTimeoutMinutes: 60,
}

const connects = (device: LabDevice): Item => ({
  kind: 'presence',
  event: 'connected',
  username: device.token,
})
const disconnects = (device: LabDevice): Item => ({
  kind: 'presence',
  event: 'disconnected',
  username: device.token,
})

describe('a first wave of 100 of 1,000 devices', () => {
  it('a wave of which 95 of 100 devices fall silent after their notice opens no next wave and halts the task', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices, connects)
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    expect(told).toHaveLength(100)
    const [well, silent] = [told.slice(0, 5), told.slice(5)]
    await fleet.all(silent, disconnects)
    await fleet.all(well, (device) => progresses(device, 100))
    expect(await task.get()).toMatchObject({
      status: 'running',
      reached: 100,
      succeeded: 0,
      unseen: 5,
      failed: 0,
    })

    await fleet.wait(59 * MINUTE)
    expect(await task.get()).toMatchObject({ status: 'running', failed: 0 })
    await fleet.wait(2 * MINUTE)
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: 'halted: 95 of 100 settled devices failed (95 %, the limit is 10 %)',
      reached: 100,
      succeeded: 5,
      failed: 95,
      waves: [
        { devices: 100, reached: 100, succeeded: 5, failed: 95 },
        { devices: 900, openedAt: null, reached: 0 },
      ],
    })
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 900, pushed: 95, success: 5 })
    expectNone(await fleet.takeNotices())

    // If they come back, they no longer count as failed.
    await fleet.succeed(silent)
    expect(await task.get()).toMatchObject({ status: 'paused', succeeded: 100, failed: 0 })
    await task.post('/resume')
    expect(await fleet.takeNotices()).toHaveLength(900)
  })

  it('a wave whose devices report 100 % and then their old version opens no next wave and halts the task', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices, (device) => reports(device, 'v1'))
    const task = await fleet.upgradeTo('v2', {
      policy: { ...policy, waves: [{ percent: 10, soakMinutes: 30 }, { percent: 100 }] },
    })
    const told = await fleet.takeNotices()
    expect(told).toHaveLength(100)
    await fleet.all(told, (device) => progresses(device, 100))
    await fleet.all(told, connects)
    expect(await task.get()).toMatchObject({ status: 'running', succeeded: 100, failed: 0 })
    await fleet.wait(10 * MINUTE)
    await fleet.all(told, (device) => reports(device, 'v1'))
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: 'halted: 100 of 100 settled devices failed (100 %, the limit is 10 %)',
      reached: 100,
      succeeded: 0,
      failed: 100,
      rolledBack: 100,
    })
    await fleet.wait(60 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, pending: 900, success: 100 })
  })

  it('a wave whose devices are all switched off counts as neither succeeded nor failed', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy })
    expect(await fleet.takeNotices('offline')).toHaveLength(100)
    for (let hour = 1; hour <= 3; hour++) {
      // Others are to make up for them; they are switched off too.
      await fleet.wait(61 * MINUTE)
      expect(await fleet.takeNotices('offline')).toHaveLength(100)
      expect(await task.get()).toMatchObject({ status: 'running', reached: 0, failed: 0 })
    }
    const { devices } = fleet
    const { body } = await fleet.admin.call('GET', `/api/v1/tasks/${task.id}/devices/${devices[0]!.id}`)
    expect(body.waitingFor).toMatch(
      /^offline since|^wave 2 opens when 100 devices of wave 1 were reached \(now 0\)/,
    )
    expect((await task.get()).waves[1].openedAt).toBeNull()
  })
})
