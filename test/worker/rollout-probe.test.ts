import { describe, expect, it } from 'vitest'
import { type LabDevice, over, progresses, reports, requests } from './lab.ts'
import type { Item } from './lab-bridge.ts'
import { countsOf, expectNone, makeRolloutFleet } from './rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const says = (step: number) => (device: LabDevice) => progresses(device, step)
const presence = (event: 'connected' | 'disconnected') => (device: LabDevice): Item => ({
  ...{ kind: 'presence', event, username: device.token },
})

describe('probe', () => {
  const waves = [{ percent: 10, successPercent: 95, soakMinutes: 30 }, { percent: 100 }]
  it.each(['mqtt', 'https', 'nobody'])('soak with a straggler that asks by %s', async (how) => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { waves } })
    const told = await fleet.takeNotices()
    await fleet.all(told, says(50))
    await fleet.all(told.slice(0, 96), says(100))
    const again: LabDevice[] = []
    for (let n = 0; n < 6; n++) {
      if (how === 'mqtt') await fleet.all(told.slice(96, 97), (d) => requests(d, 'x'))
      if (how === 'https') await over(told[96]!)('GET', '/device/v1/upgrade')
      again.push(...(await fleet.takeNotices()))
      await fleet.wait(5 * MINUTE)
    }
    await fleet.wait(2 * SECOND)
    again.push(...(await fleet.takeNotices()))
    console.log(how, again.length, (await task.get()).waves)
    expect(again.filter((d) => !told.includes(d))).toHaveLength(900)
  })

  it('soak with one that re-reports', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.upgradeTo('v2', { policy: { waves } })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 96), says(100))
    const again: LabDevice[] = []
    for (let n = 0; n < 3; n++) {
      await fleet.wait(9 * MINUTE)
      await fleet.all(told.slice(96, 97), (d) => reports(d, 'v1'))
      again.push(...(await fleet.takeNotices()))
    }
    await fleet.wait(4 * MINUTE)
    again.push(...(await fleet.takeNotices()))
    expect(again.filter((d) => !told.includes(d))).toHaveLength(900)
  })

  it('re-push finds nobody: gone', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices, presence('connected'))
    const task = await fleet.upgradeTo('v2', {
      policy: { waves: [{ percent: 10 }, { percent: 100 }], haltOn: { failurePercent: 10, minFinished: 20 } },
    })
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 5), says(100))
    await fleet.all(told.slice(5), (d) => reports(d, 'v1'))
    await fleet.all(told.slice(5), presence('disconnected'))
    expect(await fleet.takeNotices('offline')).toHaveLength(95)
    await fleet.wait(62 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({ status: 'paused', failed: 95, reached: 100 })
  })

  it('dynamic joiners during soak', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 10, soakMinutes: 30 }, { percent: 100 }], dynamic: true } })
    const told = await fleet.takeNotices()
    await fleet.all(told, says(100))
    const n = []
    for (let k = 0; k < 4; k++) {
      const csv = ['number', ...Array.from({ length: 20 }, (_, i) => `j${k}-${i}`)].join('\n')
      await fleet.admin.call('POST', `/api/v1/devices/import?productId=${fleet.productId}`, csv, { 'content-type': 'text/csv' })
      await fleet.wait(10 * MINUTE)
      n.push((await fleet.takeNotices()).length)
    }
    console.log('dynamic', n, (await task.get()).waves)
  })

  it('endAt farewell', async () => {
    const fleet = await makeRolloutFleet(1000, { notifyCancel: true })
    const endAt = new Date(Date.now() + 60 * MINUTE).toISOString()
    const task = await fleet.upgradeTo('v2', { endAt, policy: { waves: [{ percent: 50 }, { percent: 100 }] } })
    const told = await fleet.takeNotices()
    await fleet.wait(50 * MINUTE)
    await fleet.all(told.slice(300), says(20))
    await fleet.wait(11 * MINUTE)
    const frames = [...(await fleet.unexpected())]
    console.log('farewell', frames.length, frames[0]?.payload, await countsOf(task))
  })
})
