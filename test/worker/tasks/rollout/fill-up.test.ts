import { describe, expect, it } from 'vitest'
import { addDevice, type LabDevice, type LabTask, over, progresses, reports } from '../../lab.ts'
import { moveClock } from '../../lab-clock.ts'
import { expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE

const call = async (answer: Promise<{ status: number; body: unknown }>) => {
  const { status, body } = await answer
  expect(status, JSON.stringify(body)).toBeLessThan(300)
}

/** Each counter of each wave is what its devices say, and none is negative. */
async function expectSane(task: LabTask) {
  const { waves, counts } = await task.get()
  for (const wave of waves) {
    for (const count of Object.values(wave)) if (typeof count === 'number') expect(count).not.toBeLessThan(0)
  }
  const devices = waves.reduce((sum: number, wave: { devices: number }) => sum + wave.devices, 0)
  expect(devices).toBeLessThanOrEqual(counts.total)
}

const removed: [string, (fleet: RolloutFleet, task: LabTask, device: LabDevice) => Promise<void>][] = [
  ['deleted', ({ admin }, _, { id }) => call(admin.call('DELETE', `/api/v1/devices/${id}`))],
  ['cancelled', (_, task, { id }) => call(task.post(`/devices/${id}/cancel`))],
  ['flashed by hand', ({ bridge }, _, device) => bridge.post([reports(device, 'v2')]).then(() => {})],
  [
    'gone to a hotfix',
    async (fleet, _, { id }) => {
      await fleet.upgradeTo('v9', { devices: { ids: [id] } })
    },
  ],
]

describe('a wave is a number of reached devices', () => {
  const waves = [{ percent: 10 }, { percent: 100 }]

  it.each(removed)(
    'a wave whose only device is %s before it was reached fills up with the next one',
    async (_, remove) => {
      const fleet = await makeRolloutFleet(10)
      const task = await fleet.upgradeTo('v2', { policy: { waves } })
      const [canary] = (await fleet.takeNotices('offline')) as [LabDevice]
      await remove(fleet, task, canary)
      await fleet.wait(1)
      // A hotfix has a notice for the device itself.
      const next = (await fleet.takeNotices()).filter((device) => device !== canary)
      expect(next).toHaveLength(1)
      await fleet.wait(30 * MINUTE)
      expectNone(await fleet.takeNotices())
      await fleet.succeed(next)
      expect(await fleet.takeNotices()).toHaveLength(8)
      await expectSane(task)
    },
  )

  it('devices that are offline are made up for after `topUpMinutes`, and the next wave waits for as many as the wave has', async () => {
    const fleet = await makeRolloutFleet(100)
    const task = await fleet.upgradeTo('v2', {
      policy: { waves: [{ percent: 10, topUpMinutes: 20 }, { percent: 100 }] },
    })
    const first = await fleet.takeNotices('offline')
    expect(first).toHaveLength(10)
    await fleet.wait(19 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect((await task.get()).waitingFor).toMatch(
      /^wave 2 opens when 10 devices of wave 1 were reached \(now 0\); others make up for the missing ones at \S+Z$/,
    )
    await fleet.wait(2 * MINUTE)
    const second = await fleet.takeNotices()
    expect(second).toHaveLength(10)
    await fleet.succeed(second.slice(0, 8))
    await fleet.all(second.slice(8), (device) => progresses(device, 10))
    expectNone(await fleet.takeNotices())
    await fleet.succeed(second.slice(8))
    const rest = await fleet.takeNotices()
    expect(rest).toHaveLength(80)
    expect(new Set([...first, ...second, ...rest]).size).toBe(100)
    expect((await task.get()).waves).toMatchObject([
      { devices: 20, size: 10, reached: 10, succeeded: 10 },
      { devices: 80, size: 80, reached: 80 },
    ])
    await expectSane(task)
  })

  it('a wave of which one device is missing does not open the next one before another was reached in its place', async () => {
    const fleet = await makeRolloutFleet(40)
    const task = await fleet.upgradeTo('v2', { policy: { waves } })
    const first = await fleet.takeNotices()
    expect(first).toHaveLength(4)
    await call(task.post(`/devices/${first[0]!.id}/cancel`))
    const second = await fleet.takeNotices()
    expect(second).toHaveLength(1)
    await fleet.succeed(first.slice(1))
    expectNone(await fleet.takeNotices())
    expect((await task.get()).waves[1].openedAt).toBeNull()
    await fleet.succeed(second)
    expect(await fleet.takeNotices()).toHaveLength(35)
  })

  it('a scheduled rollout goes on although a device that was on the target is deleted before the start', async () => {
    const fleet = await makeRolloutFleet(10)
    await fleet.all(fleet.devices, (device) => reports(device, 'v1'))
    await fleet.all(fleet.devices.slice(0, 2), (device) => reports(device, 'v2'))
    const startAt = new Date(Date.now() + HOUR).toISOString()
    const task = await fleet.upgradeTo('v2', {
      startAt,
      policy: { waves: [{ percent: 30 }, { percent: 100 }] },
    })
    await fleet.wait(MINUTE)
    await call(fleet.admin.call('DELETE', `/api/v1/devices/${fleet.devices[0]!.id}`))
    await fleet.wait(HOUR)
    const first = await fleet.takeNotices()
    await expectSane(task)
    await fleet.succeed(first)
    const rest = await fleet.takeNotices()
    expect(first.length + rest.length).toBe(8)
    await expectSane(task)
  })

  it('where nobody is left to make up for missing devices, the wave opens the next one with those it has', async () => {
    const fleet = await makeRolloutFleet(4)
    const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 50 }, { percent: 100 }] } })
    const first = await fleet.takeNotices()
    const others = fleet.devices.filter((device) => !first.includes(device))
    for (const { id } of [...others, first[0]!]) await call(task.post(`/devices/${id}/cancel`))
    await fleet.succeed(first.slice(1))
    await fleet.wait(1)
    expect(await task.get()).toMatchObject({ status: 'finished', counts: { success: 1, cancelled: 3 } })
  })

  it('devices that joined later make up for missing ones too', async () => {
    const fleet = await makeRolloutFleet(2)
    const task = await fleet.upgradeTo('v2', {
      policy: { dynamic: true, waves: [{ percent: 50, topUpMinutes: 5 }, { percent: 100 }] },
    })
    await fleet.takeNotices('offline')
    for (let number = 0; number < 8; number++) await addDevice(fleet.admin, fleet.productId, `new${number}`)
    for (let times = 0; times < 12; times++) {
      await fleet.wait(6 * MINUTE)
      fleet.bridge.frames.length = 0
    }
    await expectSane(task)
    const [first, second] = (await task.get()).waves
    expect(first.devices).toBeGreaterThan(2)
    expect(second.openedAt).toBeNull()
  })
})

describe('a rollout over HTTPS, without a bridge', () => {
  const asks = async (device: LabDevice) =>
    (await over(device)('GET', '/device/v1/upgrade')).body.params.version
  const succeeds = async (device: LabDevice) => {
    await call(over(device)('POST', '/device/v1/progress', { step: '100' }))
    await call(over(device)('POST', '/device/v1/inform', { params: { version: 'v2' } }))
  }

  async function withoutBridge(count: number) {
    const fleet = await makeRolloutFleet(count)
    fleet.bridge.close()
    return fleet
  }

  it('one device that is switched off does not stop it', async () => {
    const fleet = await withoutBridge(20)
    const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 10 }, { percent: 100 }] } })
    await fleet.wait(1)
    const off = await canaryOf(fleet, task)
    const on = fleet.devices.filter((device) => device !== off)
    const done = new Set<LabDevice>()
    for (let hour = 0; hour < 12 && done.size < on.length; hour++) {
      for (const device of on) {
        if (done.has(device) || (await asks(device)) !== 'v2') continue
        await succeeds(device)
        done.add(device)
      }
      await fleet.wait(HOUR + MINUTE)
    }
    expect(done.size).toBe(19)
    await expectSane(task)
  })

  /** A device of the first wave, which says what it waits for. */
  async function canaryOf(fleet: RolloutFleet, task: LabTask): Promise<LabDevice> {
    for (const device of fleet.devices) {
      if (!/^wave/.test((await task.device(device)).waitingFor)) return device
    }
    throw new Error('no device is in the first wave')
  }

  it('where nobody can be reached at all it waits, says so, and tells a webhook after a day, once', async () => {
    const fleet = await withoutBridge(20)
    const hook = await fleet.admin.call('POST', '/api/v1/webhooks', {
      url: 'http://127.0.0.1:9/hook',
      events: ['task.stalled'],
    })
    const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 10 }, { percent: 100 }] } })
    for (let hour = 0; hour < 23; hour++) {
      moveClock(HOUR)
      await fleet.unexpected()
    }
    const stalls = async () =>
      (await fleet.admin.call('GET', `/api/v1/webhooks/${hook.body.id}/deliveries`)).body.items
    expect(await stalls()).toEqual([])
    // The wave took in nobody else: they could not be reached either.
    expect((await task.get()).waves).toMatchObject([{ devices: 2 }, { devices: 18 }])
    for (let hour = 0; hour < 30; hour++) {
      moveClock(HOUR)
      await fleet.unexpected()
    }
    expect(await stalls()).toMatchObject([{ type: 'task.stalled' }])
    expect((await task.get()).waitingFor).toMatch(/bridge is away/)
  })
})
