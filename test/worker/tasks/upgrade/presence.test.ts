import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, over, progresses, reports, requests, says, subscribes } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

/** A device that was offline when its notice went out. */
async function offlineLab(task: Record<string, unknown> = {}) {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const made = await lab.upgradeTo('v2', task)
  const { frame } = await lab.bridge.notice(device)
  await lab.bridge.post([taken(frame, 'offline')])
  expect(await lab.unexpected()).toEqual([])
  expect(await made.device(device)).toMatchObject({ status: 'pending', pushes: 0 })
  expect((await made.device(device)).waitingFor).toContain('offline')
  return { lab, device, task: made, first: frame }
}

describe('a device that is offline when its task starts', () => {
  it('an offline device gets its notice when it subscribes', async () => {
    const { lab, device, task } = await offlineLab()
    await lab.bridge.post([subscribes(device)])
    await lab.push(device)
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 })
  })

  it('an offline device gets its notice when it reports its version', async () => {
    const { lab, device, task } = await offlineLab()
    await lab.bridge.post([reports(device, 'v1')])
    await lab.push(device)
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1, fromVersion: 'v1' })
  })

  it('an offline device gets its notice when it asks over HTTPS', async () => {
    const { lab, device, task } = await offlineLab()
    const { status, body } = await over(device)('GET', '/device/v1/upgrade')
    expect(status).toBe(200)
    expect(body).toMatchObject({
      id: expect.stringMatching(/^\d{10}$/),
      code: 200,
      params: { version: 'v2' },
    })
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 })
    expect(await lab.unexpected()).toEqual([])
  })

  it('an offline device gets its notice when it asks over MQTT', async () => {
    const { lab, device, task } = await offlineLab()
    await lab.bridge.post([requests(device, '77')])
    await lab.push(device)
    expect((await task.device(device)).status).toBe('pushed')
    expect(lab.bridge.replies).toEqual([])
  })

  it('an offline device stays Pending for weeks', async () => {
    const { lab, device, task } = await offlineLab()
    for (let day = 1; day <= 21; day++) {
      moveClock(DAY)
      expect(await lab.unexpected()).toEqual([])
    }
    expect((await task.device(device)).status).toBe('pending')
  })

  it('a device that the broker did not find was sent nothing, even if the bridge said `sent` before', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.publish(frame, 'offline')
    await lab.bridge.post([progresses(device, 100)])
    expect(await task.device(device)).toMatchObject({ status: 'pending', pushes: 0, step: null })
  })

  it.each([
    ['subscribes', subscribes],
    ['reports', (device: LabDevice) => reports(device, 'v1')],
  ])('a device that %s while the broker still looks for it gets its notice again', async (_, turnsUp) => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([sent(frame), turnsUp(device), taken(frame, 'offline')])
    await lab.push(device)
    expect((await task.device(device)).status).toBe('pushed')
  })
})

describe('a device that was away longer than its link lives, with a stale notice queued', () => {
  async function backAfterDays() {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2', { policy: { downloadTtlSeconds: 3600 } })
    const stale = await lab.push(device)
    moveClock(3 * DAY)
    return { lab, device, task, stale }
  }

  it('a device that fails on an expired link before its fresh notice comes still upgrades', async () => {
    const { lab, device, task, stale } = await backAfterDays()
    await lab.bridge.post([subscribes(device), progresses(device, -2)])
    const fresh = await lab.push(device)
    expect(fresh.notice.params.url).not.toBe(stale.notice.params.url)
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([progresses(device, 50), progresses(device, 100)])
    expect(await task.device(device)).toMatchObject({ status: 'success', pushes: 2, attempt: 1 })
  })

  it('a device that fails on an expired link after its fresh notice was taken still upgrades', async () => {
    const { lab, device, task } = await backAfterDays()
    await lab.bridge.post([subscribes(device)])
    await lab.push(device)
    await lab.bridge.post([progresses(device, -2)])
    expect((await task.device(device)).status).toBe('pushed')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    expect(await task.device(device)).toMatchObject({ status: 'success', attempt: 1 })
  })

  it('a device that fails on an expired link between `sent` and PUBACK of its fresh notice still upgrades', async () => {
    const { lab, device, task } = await backAfterDays()
    await lab.bridge.post([subscribes(device)])
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([sent(frame), progresses(device, -2), taken(frame)])
    expect((await task.device(device)).status).toBe('pushed')
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
  })

  it('a device that fails on an expired link still upgrades if the bridge reports no presence', async () => {
    const { lab, device, task } = await backAfterDays()
    await lab.bridge.post([progresses(device, -2)])
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
  })
})

describe('subscriptions', () => {
  it('a subscription within 60 s after a notice was taken gets no notice, and a later one does', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([subscribes(device)])
    moveClock(55_000)
    await lab.bridge.post([subscribes(device)])
    expect(await lab.unexpected()).toEqual([])
    moveClock(6_000)
    await lab.bridge.post([subscribes(device)])
    await lab.push(device)
  })

  it('a subscription of an Upgrading device gets no notice, so that a flaky connection does not restart a download', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 30)])
    moveClock(5 * MINUTE)
    await lab.bridge.post([subscribes(device), progresses(device, 35), subscribes(device)])
    expect(await lab.unexpected()).toEqual([])
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 35, pushes: 1 })
  })

  it('a subscription of a Pushed device whose progress comes with it gets no notice', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    moveClock(5 * MINUTE)
    await lab.bridge.post([subscribes(device), progresses(device, 35)])
    expect(await lab.unexpected()).toEqual([])
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', pushes: 1 })
  })
})

describe('presence', () => {
  it('the API shows whether a device is online, until the broker restarts', async () => {
    const lab = await makeLab(2)
    const [first, second] = lab.devices as [LabDevice, LabDevice]
    const online = async (device: LabDevice) =>
      (await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).body.online
    expect(await online(first)).toBe(null)
    const presence = (device: LabDevice, event: 'connected' | 'disconnected') =>
      ({ kind: 'presence', event, username: device.token }) as const
    await lab.bridge.post([presence(first, 'connected'), presence(second, 'connected')])
    expect([await online(first), await online(second)]).toEqual([true, true])
    await lab.bridge.post([presence(first, 'disconnected')])
    expect([await online(first), await online(second)]).toEqual([false, true])
    await lab.bridge.post([{ kind: 'presence', event: 'reset' }, presence(first, 'connected')])
    expect([await online(first), await online(second)]).toEqual([true, false])
    const listed = await lab.admin.call('GET', `/api/v1/devices?productId=${lab.productId}&online=true`)
    expect(listed.body.items.map(({ id }: { id: string }) => id)).toEqual([first.id])
  })

  it("a device's topic family follows its latest topic, and the misspelt topic belongs to the first family", async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const first = await lab.push(device)
    expect(first.frame.topic).toBe(`ota/device/inform/${device.token}`)
    const inform = { id: '1', params: { version: 'v1' } }
    await lab.bridge.post([says(device, 'ota/device/infrom', inform)])
    expect((await lab.push(device)).frame.topic).toBe(`ota/device/inform/${device.token}`)
    await lab.bridge.post([says(device, 'ota/devices/inform', inform)])
    expect((await lab.push(device)).frame).toMatchObject({
      topic: `ota/devices/inform/${device.number}`,
      username: device.token,
    })
    await lab.bridge.post([says(device, 'ota/devices/progress', { step: 1 })])
    expect((await task.device(device)).status).toBe('upgrading')
    await lab.bridge.post([subscribes(device), requests(device, '1')])
    expect((await lab.push(device)).frame.topic).toBe(`ota/device/inform/${device.token}`)
  })
})
