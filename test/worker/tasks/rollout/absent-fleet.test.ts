import { describe, expect, it } from 'vitest'
import { type LabDevice, over, progresses, subscribes } from '../../lab.ts'
import { type Item, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'
import { becomes, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const presence =
  (event: 'connected' | 'disconnected') =>
  ({ token }: LabDevice): Item => ({ kind: 'presence', event, username: token })

const waves = [{ percent: 20 }, { percent: 50 }, { percent: 100 }]
const sizes = async (task: { get: () => Promise<{ waves: { devices: number; size: number }[] }> }) =>
  (await task.get()).waves.map(({ devices, size }) => [devices, size])

/** Ten devices of which the broker knows that they are switched off, and a task in three waves. */
async function switchedOff(result: 'taken' | 'offline' = 'offline') {
  const fleet = await makeRolloutFleet(10)
  await fleet.all(fleet.devices, presence('connected'))
  await fleet.all(fleet.devices, presence('disconnected'))
  const task = await fleet.upgradeTo('v2', { policy: { waves } })
  const canaries = await fleet.takeNotices(result)
  expect(canaries).toHaveLength(2)
  return { fleet, task, canaries }
}

const comesBack = (fleet: RolloutFleet, devices: LabDevice[]) =>
  fleet.all(devices, presence('connected')).then(() => fleet.all(devices, subscribes))

describe('a fleet that is switched off', () => {
  it.each(['taken', 'offline'] as const)(
    'the first wave takes in no device that is known to be disconnected (notices: %s)',
    async (result) => {
      const { fleet, task, canaries } = await switchedOff(result)
      for (let hour = 0; hour < 12; hour++) await fleet.wait(HOUR)
      expectNone(await fleet.takeNotices())
      expect(await sizes(task)).toEqual([
        [2, 2],
        [3, 3],
        [5, 5],
      ])
      expect((await task.get()).waitingFor).toMatch(
        /^wave 2 opens when 2 devices of wave 1 were reached \(now 0\); at \S+Z none of the other devices was connected$/,
      )
      await comesBack(fleet, fleet.devices)
      const told = await fleet.takeNotices()
      for (const device of told) expect(canaries).toContain(device)
    },
  )

  it('one device that comes back makes up for a canary that stays away', async () => {
    const { fleet, canaries } = await switchedOff()
    await fleet.wait(3 * HOUR)
    const [other] = fleet.devices.filter((device) => !canaries.includes(device))
    await comesBack(fleet, [other!])
    await fleet.wait(16 * MINUTE)
    expect(await fleet.takeNotices()).toEqual([other])
  })

  it('while the bridge is away, only a device that asks over HTTPS makes up for a missing one', async () => {
    const { fleet, task, canaries } = await switchedOff()
    fleet.bridge.close()
    const [asking] = fleet.devices.filter((device) => !canaries.includes(device))
    const asks = async () => (await over(asking!)('GET', '/device/v1/upgrade')).body.params.version
    for (let hour = 0; hour < 3; hour++) {
      await asks()
      moveClock(HOUR)
      await fleet.unexpected()
    }
    expect(await asks()).toBe('v2')
    expect(await sizes(task)).toEqual([
      [3, 2],
      [expect.any(Number), expect.any(Number)],
      [expect.any(Number), expect.any(Number)],
    ])
  })
})

describe('a fleet of which nobody can tell whether it is there', () => {
  /** The first wave has taken in nearly all others when they come back. */
  async function longAbsent() {
    const fleet = await makeRolloutFleet(10)
    const task = await fleet.upgradeTo('v2', { policy: { waves } })
    for (let hour = 0; hour < 3; hour++) {
      expect(await fleet.takeNotices('offline')).toHaveLength(2)
      await fleet.wait(HOUR + MINUTE)
    }
    await fleet.takeNotices('offline')
    expect((await sizes(task))[0]).toEqual([8, 2])
    return { fleet, task }
  }

  it('no more devices are told than the wave is to try, however many come back at once', async () => {
    const { fleet, task } = await longAbsent()
    await fleet.all(fleet.devices, subscribes)
    const told = await fleet.takeNotices()
    expect(told).toHaveLength(2)
    const full = fleet.devices.find((device) => !told.includes(device))!
    expect((await task.device(full)).waitingFor).toMatch(/wave/)
    await fleet.wait(30 * MINUTE)
    expectNone(await fleet.takeNotices())
  })

  it('the waves behind get back what was not tried, and are tried in their turn', async () => {
    const { fleet, task } = await longAbsent()
    await fleet.all(fleet.devices, subscribes)
    await fleet.succeed(await fleet.takeNotices())
    const second = await fleet.takeNotices()
    expect(second.length).toBeLessThan(6)
    await fleet.succeed(second)
    const third = await fleet.takeNotices()
    await fleet.succeed(third)
    expect(2 + second.length + third.length).toBe(10)
    await becomes(task, 'finished')
    expect(await task.get()).toMatchObject({ counts: { success: 10 } })
  })

  it('a device that fails to be reached after all leaves its room to the next', async () => {
    const { fleet } = await longAbsent()
    await fleet.all(fleet.devices, subscribes)
    expect(await fleet.takeNotices('offline')).toHaveLength(8)
  })

  it('a bad image is stopped after as many devices as the wave is to try', async () => {
    const { fleet, task } = await longAbsent()
    await fleet.all(fleet.devices, subscribes)
    const told = await fleet.takeNotices()
    await fleet.all(told, (device) => progresses(device, -1))
    await fleet.wait(5 * HOUR)
    expectNone(await fleet.takeNotices())
    expect(await task.get()).toMatchObject({ counts: { failure: 2, pending: 8 } })
  })
})

describe('a bridge that cannot reach its broker', () => {
  /** Gives every notice back, for so long. Returns how many came. */
  async function giveBack(fleet: RolloutFleet, ms: number): Promise<number> {
    let count = 0
    for (let passed = 0; passed < ms; passed += MINUTE / 2) {
      const frames = fleet.bridge.frames.splice(0)
      count += frames.length
      await fleet.postAll(frames.map((frame) => taken(frame, 'returned')))
      if (frames.length > 0) fleet.bridge.grant(frames.length)
      await fleet.wait(MINUTE / 2)
    }
    return count
  }

  it('is asked less and less often, and at once when something comes through the broker again', async () => {
    const fleet = await makeRolloutFleet(10)
    const task = await fleet.upgradeTo('v2')
    await fleet.wait(1)
    await giveBack(fleet, 10 * MINUTE)
    expect(await giveBack(fleet, HOUR)).toBeLessThanOrEqual(50)
    expect((await task.get()).waitingFor).toBe('its bridge cannot reach the broker')
    await comesBack(fleet, fleet.devices)
    expect(await fleet.takeNotices()).toHaveLength(10)
  })

  it('holds up no wave of devices that ask over HTTPS', async () => {
    const fleet = await makeRolloutFleet(10)
    const task = await fleet.upgradeTo('v2', { policy: { waves } })
    await fleet.wait(1)
    const told = new Set<LabDevice>()
    for (let hour = 0; hour < 8; hour++) {
      await giveBack(fleet, 2 * MINUTE)
      for (const device of fleet.devices.slice(0, 9)) {
        const { body } = await over(device)('GET', '/device/v1/upgrade')
        if (body.params.version !== 'v2') continue
        await over(device)('POST', '/device/v1/progress', { step: '100' })
        await over(device)('POST', '/device/v1/inform', { params: { version: 'v2' } })
        told.add(device)
      }
      await giveBack(fleet, HOUR)
    }
    expect(told.size).toBe(9)
    expect(await task.get()).toMatchObject({ counts: { success: 9, pending: 1 } })
  })
})
