import { describe, expect, it } from 'vitest'
import { type LabDevice, over } from '../../lab.ts'
import { countsOf, makeRolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const asks = async (device: LabDevice) => (await over(device)('GET', '/device/v1/upgrade')).body.params

describe('the rate, with devices that ask over HTTPS', () => {
  it('devices that poll once a minute take it from nobody: the same notice counts once', async () => {
    const fleet = await makeRolloutFleet(60)
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 10 } })
    const polling = fleet.devices.slice(0, 12)
    for (let minute = 0; minute < 12; minute++) {
      for (const device of polling) await asks(device)
      for (let step = 0; step < 6; step++) {
        await fleet.wait(10 * SECOND)
        await fleet.takeNotices()
      }
    }
    expect((await countsOf(task)).pushed).toBe(60)
  })

  it('60 polls in a minute block the others for no more than a minute', async () => {
    const fleet = await makeRolloutFleet(20)
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 10 } })
    const [device] = fleet.devices as [LabDevice]
    await fleet.wait(10 * SECOND)
    await fleet.takeNotices()
    for (let poll = 0; poll < 60; poll++) await asks(device)
    const before = (await countsOf(task)).pushed ?? 0
    await fleet.wait(61 * SECOND)
    await fleet.wait(10 * SECOND)
    expect((await fleet.takeNotices()).length).toBeGreaterThan(0)
    expect((await countsOf(task)).pushed).toBeGreaterThan(before)
  })
})
