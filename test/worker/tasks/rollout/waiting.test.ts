import { describe, expect, it } from 'vitest'
import type { NoticeFrame } from '../../../../src/protocol/bridge.ts'
import { type LabDevice, type LabTask, progresses, subscribes } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'
import { makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const iso = (ms: number) => new Date(ms).toISOString()

const waitsFor = async (task: LabTask, device: LabDevice) => (await task.device(device)).waitingFor

/** The devices in the order in which a task sends to them. */
const inTurn = (devices: LabDevice[]) => devices.toSorted((a, b) => (a.id < b.id ? -1 : 1))

const eventTime = async (task: LabTask, device: LabDevice, kind: string): Promise<string> =>
  (await task.device(device)).events.findLast((event: { kind: string }) => event.kind === kind).at

const others = (fleet: RolloutFleet, told: LabDevice[]) =>
  fleet.devices.filter((device) => !told.includes(device))

describe('waitingFor', () => {
  it('`waitingFor` says what opens the next wave, and how far the present one is', async () => {
    const fleet = await makeRolloutFleet()
    const waves = [
      { percent: 10, successPercent: 95, soakMinutes: 30 },
      { percent: 50, successPercent: 80 },
      { percent: 100 },
    ]
    const task = await fleet.upgradeTo('v2', { policy: { waves } })
    const told: LabDevice[] = []
    const offers: NoticeFrame[] = [...(await fleet.unexpected())]
    fleet.bridge.frames.length = 0
    const byId = new Map(fleet.devices.map((device) => [device.id, device]))
    told.push(...offers.map(({ notice }) => byId.get(notice.device)!))
    expect(told).toHaveLength(100)
    expect(await waitsFor(task, told[0]!)).toBe('the notice is on its way')
    const said = new Map<string, LabDevice>()
    for (const device of others(fleet, told).slice(0, 40)) said.set(await waitsFor(task, device), device)
    const second = 'wave 2 opens when 95 % of wave 1 succeeded (none was reached yet)'
    const third = 'wave 3 opens after wave 2'
    expect([...said.keys()].sort()).toEqual([second, third])
    const ofSecond = () => waitsFor(task, said.get(second)!)

    await fleet.postAll(offers.flatMap((frame) => [sent(frame), taken(frame)]))
    expect(await waitsFor(task, told[0]!)).toBe('the device to begin')
    expect(await ofSecond()).toBe('wave 2 opens when 95 % of wave 1 succeeded (now 0 %)')
    await fleet.succeed(told.slice(0, 90))
    await fleet.all(told.slice(90), (device) => progresses(device, 50))
    expect(await waitsFor(task, told[0]!)).toBeNull()
    expect(await waitsFor(task, told[99]!)).toBe("the device's next message")
    expect(await ofSecond()).toBe('wave 2 opens when 95 % of wave 1 succeeded (now 90 %)')
    await fleet.succeed(told.slice(90, 94))
    expect(await ofSecond()).toBe('wave 2 opens when 95 % of wave 1 succeeded (now 94 %)')

    const goodAt = Date.now()
    await fleet.succeed(told.slice(94, 95))
    await fleet.unexpected()
    const soaks = await ofSecond()
    expect(soaks).toMatch(/^wave 2 opens at \S+Z, if wave 1 stays as good$/)
    const opensAt = Date.parse(soaks.split(' ')[4]!.replace(',', ''))
    expect(opensAt - goodAt).toBeGreaterThanOrEqual(30 * MINUTE)
    expect(opensAt).toBeLessThanOrEqual(Date.now() + 30 * MINUTE)
    await fleet.wait(30 * MINUTE)
    told.push(...(await fleet.takeNotices()))
    expect(told).toHaveLength(500)
    expect(await waitsFor(task, said.get(third)!)).toBe(
      'wave 3 opens when 80 % of wave 2 succeeded (now 0 %)',
    )
  })

  it('`waitingFor` says until when the window is closed', async () => {
    const fleet = await makeRolloutFleet()
    // 05:00 in Berlin, in winter: the window has just closed.
    moveClock(Date.parse('2032-01-06T04:00:00Z') - Date.now())
    await fleet.bridge.post([])
    const window = { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' }
    const task = await fleet.upgradeTo('v2', { policy: { window } })
    expect(await fleet.takeNotices()).toEqual([])
    expect(await waitsFor(task, fleet.devices[0]!)).toBe('outside its window until 01:00 Europe/Berlin')
    expect((await task.get()).waitingFor).toBe('outside its window until 01:00 Europe/Berlin')
    const weekly = { ...window, days: ['mon'] }
    const next = await fleet.upgradeTo('v3', { policy: { window: weekly } })
    expect((await next.get()).waitingFor).toBe(
      'outside its window until Monday 2032-01-12 01:00 Europe/Berlin',
    )
  })

  it('`waitingFor` says since when a device is offline, or gone after its notice', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { deviceTimeoutMinutes: 30 } })
    const frames = [...(await fleet.unexpected())]
    fleet.bridge.frames.length = 0
    const byId = new Map(fleet.devices.map((device) => [device.id, device]))
    fleet.bridge.grant(frames.length)
    const [away, silent] = [frames.slice(0, 400), frames.slice(400)]
    await fleet.postAll(away.flatMap((frame) => [sent(frame), taken(frame, 'offline')]))
    await fleet.postAll(silent.flatMap((frame) => [sent(frame), taken(frame)]))
    const offline = byId.get(away[0]!.notice.device)!
    const gone = byId.get(silent[0]!.notice.device)!
    await fleet.all([gone], (device) => ({ kind: 'presence', event: 'disconnected', username: device.token }))
    await fleet.wait(31 * MINUTE)
    const since = await eventTime(task, offline, 'notice offline')
    expect(await waitsFor(task, offline)).toBe(
      `offline since ${since}: it is told when it subscribes, reports or asks`,
    )
    expect(Date.now() - Date.parse(since)).toBeGreaterThanOrEqual(31 * MINUTE)
    const goneAt = await eventTime(task, gone, 'gone after the notice')
    expect(await waitsFor(task, gone)).toBe(`silent and not connected since its notice: gone since ${goneAt}`)
    await fleet.all([offline], subscribes)
    expect(await fleet.takeNotices()).toEqual([offline])
    expect(await waitsFor(task, offline)).toBe('the device to begin')
  })

  it('`waitingFor` names the task that a device is busy with', async () => {
    const fleet = await makeRolloutFleet()
    const older = await fleet.upgradeTo('v2')
    const told = await fleet.takeNotices()
    await fleet.all(told.slice(0, 250), (device) => progresses(device, 10))
    const newer = await fleet.upgradeTo('v3')
    expect(await fleet.takeNotices()).toHaveLength(750)
    for (const device of told.slice(0, 250).filter((_, index) => index % 50 === 0)) {
      expect(await waitsFor(newer, device)).toBe(`busy with task ${older.id}`)
    }
  })

  it('`waitingFor` says about how long the rate lets a device wait', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 100 } })
    expect(await fleet.takeNotices()).toHaveLength(1)
    const queue = inTurn(fleet.devices)
    const said = await Promise.all([1, 101, 102, 400, 999].map((place) => waitsFor(task, queue[place]!)))
    expect(said).toEqual([1, 1, 2, 4, 10].map((minutes) => `rate: about ${minutes} min`))
  })

  it('`waitingFor` says about how long the rate lets a device of a wave of 20 % wait', async () => {
    const fleet = await makeRolloutFleet()
    const waves = [{ percent: 20 }, { percent: 100 }]
    const task = await fleet.upgradeTo('v2', { policy: { ratePerMinute: 100, waves } })
    expect(await fleet.takeNotices()).toHaveLength(1)
    // Some of the last 40 devices are in the wave. About a fifth of the devices ahead of them are in it too.
    const said: string[] = []
    for (const device of inTurn(fleet.devices).slice(-40)) said.push(await waitsFor(task, device))
    expect(new Set(said)).toEqual(
      new Set(['rate: about 2 min', 'wave 2 opens when 90 % of wave 1 succeeded (now 0 %)']),
    )
  })

  it('`waitingFor` says when an automatic retry comes', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2', { policy: { autoRetry: { times: 2, backoffMinutes: 10 } } })
    const told = await fleet.takeNotices()
    await fleet.all(told, (device) => progresses(device, -1))
    const failedAt = Date.parse(await eventTime(task, told[7]!, 'progress'))
    expect(await waitsFor(task, told[7]!)).toBe(`its automatic retry at ${iso(failedAt + 10 * MINUTE)}`)
    await fleet.wait(10 * MINUTE + SECOND)
    expect(await fleet.takeNotices()).toHaveLength(1000)
    await fleet.all(told, (device) => progresses(device, -2))
    const again = Date.parse(await eventTime(task, told[7]!, 'progress'))
    expect(await waitsFor(task, told[7]!)).toBe(`its automatic retry at ${iso(again + 20 * MINUTE)}`)
  })

  it('`waitingFor` says what an operator has stopped', async () => {
    const fleet = await makeRolloutFleet()
    const startAt = new Date(Date.now() + 60 * MINUTE).toISOString()
    const task = await fleet.upgradeTo('v2', { startAt })
    await fleet.takeNotices()
    const [device, disabled] = fleet.devices as [LabDevice, LabDevice]
    expect(await waitsFor(task, device)).toBe(`the task starts at ${startAt}`)
    await fleet.admin.call('PATCH', `/api/v1/devices/${disabled.id}`, { enabled: false })
    await fleet.admin.call('POST', `/api/v1/products/${fleet.productId}/freeze`)
    await fleet.wait(60 * MINUTE)
    expect(await fleet.takeNotices()).toEqual([])
    expect(await waitsFor(task, device)).toBe('the product is frozen')
    await fleet.admin.call('POST', `/api/v1/products/${fleet.productId}/unfreeze`)
    expect(await fleet.takeNotices()).toHaveLength(999)
    expect(await waitsFor(task, disabled)).toBe('the device is disabled')
    await task.post('/pause')
    expect(await waitsFor(task, device)).toBe('the task is paused')
    await task.post('/resume')
    await task.post('/cancel')
    expect(await fleet.takeNotices()).toEqual([])
    expect(await waitsFor(task, device)).toBeNull()
  })
})
