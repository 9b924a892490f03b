import { describe, expect, it } from 'vitest'
import { type LabDevice, over, progresses, reports, requests, says, subscribes } from '../../lab.ts'
import type { Item } from '../../lab-bridge.ts'
import { moveClock, untilIdle } from '../../lab-clock.ts'
import { expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000
const presence =
  (event: 'connected' | 'disconnected') =>
  ({ token }: LabDevice): Item => ({ kind: 'presence', event, username: token })

const waves = [{ percent: 10, soakMinutes: 60 }, { percent: 100 }]
const at100 = (device: LabDevice) => progresses(device, 100)

/** 100 devices, of which the ten of the first wave have said 100 %. `isKnown`: their broker tells who is connected. */
async function wave1(policy: Record<string, unknown> = { waves }, isKnown = true) {
  const fleet = await makeRolloutFleet(100)
  if (isKnown) await fleet.all(fleet.devices, presence('connected'))
  const task = await fleet.upgradeTo('v2', { policy })
  const told = await fleet.takeNotices()
  expect(told).toHaveLength(10)
  await fleet.all(told, at100)
  return { fleet, task, told }
}

describe('the usual brick: 100 %, a restart, and never seen again', () => {
  it('ten devices that are not seen again after 100 % open no next wave and count as failed', async () => {
    const { fleet, task, told } = await wave1()
    await fleet.all(told, presence('disconnected'))
    await fleet.wait(59 * MINUTE)
    expect(await task.get()).toMatchObject({ reached: 10, succeeded: 0, unseen: 10, gone: 0, failed: 0 })
    expect((await task.get()).waitingFor).toBe(
      'wave 2 waits: 10 devices said 100 % and have not been seen since; if they sleep longer than 60 min, raise the device timeout',
    )
    await fleet.wait(16 * MINUTE)
    expect(await task.get()).toMatchObject({
      status: 'running',
      counts: { success: 10, failure: 0 },
      succeeded: 0,
      failed: 10,
      gone: 10,
    })
    await fleet.wait(600 * MINUTE)
    expectNone(await fleet.takeNotices())
  })

  it('they halt the task, which says what to do if they only sleep', async () => {
    const { fleet, task, told } = await wave1({ waves, haltOn: { failurePercent: 10, minFinished: 5 } })
    await fleet.all(told, presence('disconnected'))
    await fleet.wait(75 * MINUTE)
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason:
        'halted: 10 of 10 settled devices failed (100 %, the limit is 10 %); 10 devices said 100 % and have not been seen since; if they sleep longer than 60 min, raise the device timeout',
    })
  })

  it('a pause hides no brick, also with links through the Worker', async () => {
    const fleet = await makeRolloutFleet(10, { downloads: 'worker' })
    await fleet.all(fleet.devices, presence('connected'))
    const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 50 }, { percent: 100 }] } })
    const told = await fleet.takeNotices()
    await fleet.all(told, at100)
    await fleet.all(told, presence('disconnected'))
    await task.post('/pause')
    await fleet.wait(75 * MINUTE)
    expect(await task.get()).toMatchObject({ status: 'paused', failed: 5, gone: 5 })
  })

  it('a device timeout that is raised while the task runs takes their failures away again', async () => {
    const { fleet, task, told } = await wave1({ waves: [{ percent: 10 }, { percent: 100 }] })
    await fleet.all(told, presence('disconnected'))
    await fleet.wait(75 * MINUTE)
    expect((await task.get()).failed).toBe(10)
    expect((await task.patch({ policy: { deviceTimeoutMinutes: 300 } })).status).toBe(200)
    await fleet.wait(1)
    expect(await task.get()).toMatchObject({ failed: 0, unseen: 10, gone: 0 })
    await fleet.all(told, presence('connected'))
    expect(await task.get()).toMatchObject({ succeeded: 10, unseen: 0 })
    expect(await fleet.takeNotices()).toHaveLength(90)
  })

  it('a device timeout that is lowered counts for the devices that are silent already', async () => {
    const { fleet, task, told } = await wave1({ waves, deviceTimeoutMinutes: 600 })
    await fleet.all(told, presence('disconnected'))
    await fleet.wait(75 * MINUTE)
    expect((await task.get()).gone).toBe(0)
    expect((await task.patch({ deviceTimeoutMinutes: 60 })).status).toBe(200)
    await fleet.wait(1)
    expect((await task.get()).gone).toBe(10)
  })

  it('gone devices that come back count as well', async () => {
    const { fleet, task, told } = await wave1({ waves: [{ percent: 10 }, { percent: 100 }] })
    await fleet.all(told, presence('disconnected'))
    await fleet.wait(75 * MINUTE)
    await fleet.all(told.slice(0, 9), (device) => reports(device, 'v2'))
    expect(await task.get()).toMatchObject({ succeeded: 9, failed: 1, gone: 1 })
    expect(await fleet.takeNotices()).toHaveLength(90)
  })

  it('a device that is deleted after its 100 % says nothing; another is reached in its place', async () => {
    const { fleet, task, told } = await wave1({
      waves: [{ percent: 10, successPercent: 100 }, { percent: 100 }],
    })
    await fleet.all(told.slice(1), (device) => reports(device, 'v2'))
    expectNone(await fleet.takeNotices())
    await fleet.admin.call('DELETE', `/api/v1/devices/${told[0]!.id}`)
    await fleet.wait(6 * MINUTE)
    const next = await fleet.takeNotices()
    expect(next).toHaveLength(1)
    await fleet.succeed(next)
    expect(await fleet.takeNotices()).toHaveLength(89)
    expect(await task.get()).toMatchObject({ waves: [{ reached: 10, succeeded: 10 }, {}] })
  })
})

describe('a disabled device', () => {
  it.each<[string, number | null]>([
    ['told', null],
    ['upgrading', 50],
    ['at 100 %', 100],
  ])(
    'a device that is disabled while it is %s holds up no wave: another is reached in its place',
    async (_, step) => {
      const fleet = await makeRolloutFleet(10)
      await fleet.all(fleet.devices, presence('connected'))
      const task = await fleet.upgradeTo('v2', { policy: { waves: [{ percent: 10 }, { percent: 100 }] } })
      const [device] = (await fleet.takeNotices()) as [LabDevice]
      if (step !== null) await fleet.all([device], (each) => progresses(each, step))
      await fleet.all([device], presence('disconnected'))
      const { status } = await task.device(device)
      await fleet.admin.call('PATCH', `/api/v1/devices/${device.id}`, { enabled: false })
      const next: LabDevice[] = []
      for (let hours = 0; hours < 4; hours++) {
        await fleet.wait(61 * MINUTE)
        next.push(...(await fleet.takeNotices()).filter((each) => each !== device))
        if (next.length > 0) await fleet.succeed(next)
      }
      expect(next).toHaveLength(9)
      expect((await task.device(device)).status).toBe(status)
      expect((await task.get()).failed).toBe(0)
    },
  )
})

type Sign = (fleet: RolloutFleet, device: LabDevice) => Promise<unknown>
const post =
  (item: (device: LabDevice) => Item): Sign =>
  (fleet, device) =>
    fleet.bridge.post([item(device)])

describe('seen again after 100 %', () => {
  const signs: [string, Sign][] = [
    ['reports the target', post((device) => reports(device, 'v2'))],
    ['connects', post(presence('connected'))],
    ['subscribes', post(subscribes)],
    ['asks', post((device) => requests(device, 'r'))],
    ['reports another module', post((device) => reports(device, '7', 'WIFI'))],
    ['sends what nobody can read', post((device) => says(device, 'ota/device/inform', 'x'))],
    ['says how far it is', post((device) => progresses(device, 5))],
    ['asks over HTTPS', (_, device) => over(device)('GET', '/device/v1/upgrade')],
    [
      'asks over HTTPS for another module',
      (_, device) => over(device)('GET', '/device/v1/upgrade?module=WIFI'),
    ],
    [
      'reports over HTTPS',
      (_, device) => over(device)('POST', '/device/v1/inform', { params: { version: '7', module: 'WIFI' } }),
    ],
  ]
  it.each(signs)('a device that %s is seen', async (_, sign) => {
    const { fleet, task, told } = await wave1()
    await fleet.all(told, presence('disconnected'))
    await fleet.wait(MINUTE)
    await sign(fleet, told[0]!)
    expect(await task.get()).toMatchObject({ succeeded: 1, unseen: 9 })
  })

  it('the same 100 % once more is not', async () => {
    const { fleet, task, told } = await wave1()
    await fleet.all(told, at100)
    await fleet.all(told, presence('disconnected'))
    expect(await task.get()).toMatchObject({ succeeded: 0, unseen: 10 })
  })

  it('a device that is still connected five minutes later is seen', async () => {
    const { fleet, task, told } = await wave1({ waves: [{ percent: 10 }, { percent: 100 }] })
    await fleet.all(told.slice(9), presence('disconnected'))
    await fleet.wait(4 * MINUTE)
    expect((await task.get()).succeeded).toBe(0)
    await fleet.wait(2 * MINUTE)
    expect(await task.get()).toMatchObject({ succeeded: 9, unseen: 1 })
    expect(await fleet.takeNotices()).toHaveLength(90)
  })

  it('not even five minutes later while nobody knows whether it is connected: the bridge is away', async () => {
    const { fleet, task } = await wave1()
    await fleet.bridge.post([])
    moveClock(30 * MINUTE)
    await untilIdle()
    expect(await task.get()).toMatchObject({ succeeded: 0, unseen: 10, gone: 0 })
  })
})

describe('a broker that tells no presence', () => {
  it('a Success counts once the device is seen again, or after the device timeout', async () => {
    const { fleet, task, told } = await wave1({ waves: [{ percent: 10 }, { percent: 100 }] }, false)
    await fleet.all(told.slice(0, 3), (device) => reports(device, 'v2'))
    expect(await task.get()).toMatchObject({ succeeded: 3, unseen: 7 })
    await fleet.wait(59 * MINUTE)
    expect((await task.get()).succeeded).toBe(3)
    await fleet.wait(2 * MINUTE)
    expect(await task.get()).toMatchObject({ succeeded: 10, unseen: 0, failed: 0 })
    expect(await fleet.takeNotices()).toHaveLength(90)
  })

  it('switched-off devices are neither gone nor failed, and others are reached in their place', async () => {
    const fleet = await makeRolloutFleet(100)
    const task = await fleet.upgradeTo('v2', {
      policy: {
        waves: [{ percent: 10 }, { percent: 100 }],
        haltOn: { failurePercent: 10, minFinished: 1 },
      },
    })
    const told = await fleet.takeNotices()
    await fleet.succeed(told.slice(0, 5))
    await fleet.wait(62 * MINUTE)
    expect(await task.get()).toMatchObject({ status: 'running', failed: 0, gone: 0, reached: 5 })
    const next = await fleet.takeNotices()
    expect(next).toHaveLength(5)
    await fleet.succeed(next)
    expect(await fleet.takeNotices()).toHaveLength(85)
    expect(await task.get()).toMatchObject({ status: 'running', failed: 0 })
  })
})
