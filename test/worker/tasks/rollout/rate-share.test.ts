import { describe, expect, it } from 'vitest'
import { requests } from '../../lab.ts'
import { countsOf, makeRolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000

describe('the rate is shared: half of it is for devices that wait for their first notice', () => {
  it('60 devices at 10 a minute are all told in a quarter of an hour, although twelve of them ask every minute', async () => {
    const fleet = await makeRolloutFleet(60)
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 10 } })
    const asking = fleet.devices.slice(0, 12)
    for (let minute = 0; minute < 15; minute++) {
      await fleet.all(asking, (device) => requests(device, 'r'))
      for (let step = 0; step < 10; step++) {
        await fleet.wait(6 * SECOND + 200)
        await fleet.takeNotices()
      }
    }
    expect(await countsOf(task)).toEqual({ total: 60, pushed: 60 })
  })

  it('no more than half of the notices go out again meanwhile, and all of them once nobody waits', async () => {
    const fleet = await makeRolloutFleet(40)
    await fleet.upgradeTo('v2', { policy: { ratePerMinute: 10 } })
    const first = new Set(await fleet.takeNotices())
    let again = 0
    while (first.size < 40) {
      await fleet.all([...first].slice(0, 8), (device) => requests(device, 'r'))
      await fleet.wait(6 * SECOND + 200)
      for (const device of await fleet.takeNotices()) {
        if (first.has(device)) again++
        first.add(device)
      }
    }
    expect(again).toBeGreaterThan(30)
    expect(again).toBeLessThanOrEqual(42)
    let alone = 0
    for (let step = 0; step < 10; step++) {
      await fleet.all([...first], (device) => requests(device, 'r'))
      await fleet.wait(6 * SECOND + 200)
      alone += (await fleet.takeNotices()).length
    }
    expect(alone).toBeGreaterThanOrEqual(9)
  })
})
