import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { addDevice, type LabDevice, type LabTask, progresses, reports, subscribes } from '../../lab.ts'
import { type Item, sent, taken } from '../../lab-bridge.ts'
import { makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const twoWaves = [{ percent: 10 }, { percent: 100 }]
const presence =
  (event: 'connected' | 'disconnected') =>
  ({ token }: LabDevice): Item => ({ kind: 'presence', event, username: token })

/** A fleet of 20 that nobody could reach for hours: the first wave of four has taken in many others. */
async function longAbsent(more: { kind?: 'diff'; sourceVersion?: string } = {}) {
  const fleet = await makeRolloutFleet(20)
  if (more.kind) await fleet.all(fleet.devices, (device) => reports(device, 'v1'))
  const waves = [{ percent: 20 }, { percent: 50 }, { percent: 100 }]
  const task = await fleet.upgradeTo('v2', { policy: { waves } }, more)
  for (let hour = 0; hour < 3; hour++) {
    await fleet.takeNotices('offline')
    await fleet.wait(HOUR + MINUTE)
  }
  await fleet.takeNotices('offline')
  return { fleet, task }
}

/** The notices that the bridge has now, which it answers only later, with their devices. */
async function inHand(fleet: RolloutFleet) {
  await fleet.unexpected()
  const frames = fleet.bridge.frames.splice(0)
  const deviceOf = (id: string) => fleet.devices.find((device) => device.id === id)!
  return frames.map((frame) => ({ frame, device: deviceOf(frame.notice.device) }))
}

async function toldWithin(fleet: RolloutFleet, hours: number): Promise<LabDevice[]> {
  const told: LabDevice[] = []
  for (let hour = 0; hour < hours; hour++) {
    await fleet.wait(HOUR)
    told.push(...(await fleet.takeNotices()))
  }
  return told
}

const disable = (fleet: RolloutFleet, { id }: LabDevice) =>
  fleet.admin.call('PATCH', `/api/v1/devices/${id}`, { enabled: false })

async function editRun(
  { id }: LabTask,
  edit: (run: { waves: Record<string, unknown>[] }) => void,
): Promise<void> {
  const stub = env.UPGRADE_TASK.getByName(id)
  await runInDurableObject(stub, (_, { storage }) => {
    const run = JSON.parse(String(storage.sql.exec('SELECT run FROM task').one().run))
    edit(run)
    storage.sql.exec('UPDATE task SET run = ?', JSON.stringify(run))
  })
  await evictDurableObject(stub)
}

describe('no rollout hangs while a willing device can be reached', () => {
  it.each([
    ['comes back', true],
    ['is never confirmed', false],
  ])(
    'if the notice of a canary that was disabled %s, a connected device makes up for it',
    async (_, returns) => {
      const fleet = await makeRolloutFleet(10)
      await fleet.all(fleet.devices, presence('connected'))
      await fleet.upgradeTo('v2', { policy: { waves: twoWaves } })
      const [canary] = await inHand(fleet)
      await disable(fleet, canary!.device)
      if (returns) await fleet.postAll([taken(canary!.frame, 'returned')])
      await fleet.wait(2 * MINUTE)
      fleet.bridge.grant(1)
      expect((await toldWithin(fleet, 3)).length).toBeGreaterThan(0)
    },
  )

  it('devices whose notices came back and which were disabled since take no room from those that wait', async () => {
    const { fleet } = await longAbsent()
    await fleet.all(fleet.devices, subscribes)
    const first = await inHand(fleet)
    expect(first).toHaveLength(4)
    for (const { device } of first.slice(0, 2)) await disable(fleet, device)
    await fleet.postAll([
      ...first.slice(0, 2).map(({ frame }) => taken(frame, 'returned')),
      ...first.slice(2).flatMap(({ frame }) => [sent(frame), taken(frame)]),
    ])
    fleet.bridge.grant(first.length)
    await fleet.succeed(first.slice(2).map(({ device }) => device))
    expect((await toldWithin(fleet, 3)).length).toBeGreaterThan(0)
  })

  it('a device for which no package fits any more takes no room either', async () => {
    const { fleet } = await longAbsent({ kind: 'diff', sourceVersion: 'v1' })
    await fleet.all(fleet.devices, subscribes)
    const [first, ...others] = await inHand(fleet)
    await fleet.postAll([
      ...others.flatMap(({ frame }) => [sent(frame), taken(frame)]),
      taken(first!.frame, 'returned'),
      reports(first!.device, 'v1.5'),
    ])
    fleet.bridge.grant(others.length + 1)
    await fleet.succeed(others.map(({ device }) => device))
    expect((await toldWithin(fleet, 3)).length).toBeGreaterThan(0)
  })

  it.each([1, 2])('%i canaries that come and go each half hour are made up for', async (count) => {
    const fleet = await makeRolloutFleet(count * 10)
    await fleet.upgradeTo('v2', { policy: { waves: twoWaves } })
    const canaries = await fleet.takeNotices('offline')
    expect(canaries).toHaveLength(count)
    const others = fleet.devices.filter((device) => !canaries.includes(device))
    await fleet.all(others, presence('connected'))
    const told = new Set<LabDevice>()
    for (let times = 0; times < 12; times++) {
      await fleet.wait(30 * MINUTE)
      await fleet.all(canaries, subscribes)
      for (const device of await fleet.takeNotices('offline')) told.add(device)
    }
    expect(told.size).toBeGreaterThan(count)
  })
})

describe('no more devices are told at once than a wave is to try', () => {
  it('devices that come back just when the canaries are done wait for their own wave', async () => {
    const { fleet, task } = await longAbsent()
    await fleet.all(fleet.devices.slice(0, 4), subscribes)
    const first = await fleet.takeNotices()
    await fleet.all(first, (device) => progresses(device, 100))
    const others = fleet.devices.filter((device) => !first.includes(device))
    await fleet.postAll([...others.map(subscribes), ...first.map((device) => reports(device, 'v2'))])
    await fleet.takeNotices()
    expect((await task.get()).waves[2]).toMatchObject({ openedAt: null, reached: 0 })
  })

  it('a wave that an operator opens while the task pauses tells only its own devices', async () => {
    const { fleet, task } = await longAbsent()
    await fleet.all(fleet.devices, subscribes)
    await task.post('/pause')
    await task.post('/waves/next')
    await task.post('/resume')
    await fleet.takeNotices()
    expect((await task.get()).waves[2]).toMatchObject({ openedAt: null, reached: 0 })
  })

  it('also after the bridge could not reach its broker for a while', async () => {
    const { fleet } = await longAbsent()
    await fleet.all(fleet.devices.slice(0, 6), subscribes)
    for (let times = 0; times < 10; times++) {
      const notices = await inHand(fleet)
      await fleet.postAll(notices.map(({ frame }) => taken(frame, 'returned')))
      if (notices.length > 0) fleet.bridge.grant(notices.length)
      await fleet.wait(MINUTE / 2)
    }
    await fleet.all(fleet.devices, subscribes)
    expect((await fleet.takeNotices()).length).toBeLessThanOrEqual(4)
  })

  it('devices that joined go back to the waves that they joined', async () => {
    const fleet = await makeRolloutFleet(2)
    const waves = [{ percent: 10 }, { percent: 20 }, { percent: 100 }]
    const task = await fleet.upgradeTo('v2', { policy: { dynamic: true, waves } })
    const byId = new Map(fleet.devices.map((device) => [device.id, device]))
    const answer = async (result: 'taken' | 'offline') => {
      await fleet.unexpected()
      const frames = fleet.bridge.frames.splice(0)
      await fleet.postAll(frames.flatMap((frame) => [sent(frame), taken(frame, result)]))
      if (frames.length > 0) fleet.bridge.grant(frames.length)
      return frames.map((frame) => byId.get(frame.notice.device)!)
    }
    await answer('offline')
    for (let number = 0; number < 30; number++) {
      const device = await addDevice(fleet.admin, fleet.productId, `new${number}`)
      byId.set(device.id, device)
    }
    await fleet.wait(2 * MINUTE)
    const [first, second] = (await task.get()).waves
    for (let hour = 0; hour < 18; hour++) {
      await answer('offline')
      await fleet.wait(61 * MINUTE)
    }
    await answer('offline')
    await fleet.all([...byId.values()], subscribes)
    await fleet.succeed(await answer('taken'))
    expect((await answer('taken')).length).toBeLessThanOrEqual(first.devices + second.devices)
  })

  it('a wave that an earlier release filled up keeps its limit', async () => {
    const { fleet, task } = await longAbsent()
    await editRun(task, ({ waves }) => {
      for (const wave of waves) for (const name of ['offered', 'full', 'foundNobodyAt']) delete wave[name]
    })
    await fleet.all(fleet.devices, subscribes)
    expect((await inHand(fleet)).length).toBeLessThanOrEqual(4)
  })
})

it('devices that wait for room are not written again and again while nothing can be sent', async () => {
  const { fleet, task } = await longAbsent()
  await fleet.all(fleet.devices, subscribes)
  const notices = await inHand(fleet)
  await fleet.admin.call('POST', `/api/v1/products/${fleet.productId}/freeze`)
  await fleet.postAll(notices.flatMap(({ frame }) => [sent(frame), taken(frame, 'offline')]))
  fleet.bridge.grant(notices.length)
  await fleet.wait(HOUR)
  const writtenAt = async () =>
    (await Promise.all(fleet.devices.map((device) => task.device(device)))).map(({ updatedAt }) => updatedAt)
  const before = await writtenAt()
  await fleet.wait(2 * HOUR)
  expect(await writtenAt()).toEqual(before)
})

it('a count of waiting devices that another release left behind does not keep the alarm ringing', async () => {
  const { fleet, task } = await longAbsent()
  await fleet.all(fleet.devices.slice(0, 1), subscribes)
  await fleet.unexpected()
  await editRun(task, ({ waves }) => {
    waves[0]!.full = 3
  })
  let isDue = true
  for (let times = 0; times < 10 && isDue; times++) {
    isDue = await runInDurableObject(env.UPGRADE_TASK.getByName(task.id), async (object, { storage }) => {
      await object.alarm!()
      return ((await storage.getAlarm()) ?? Number.POSITIVE_INFINITY) <= Date.now() + 1
    })
  }
  expect(isDue).toBe(false)
})
