import { describe, expect, it } from 'vitest'
import type { NoticeFrame } from '../../../../src/protocol/bridge.ts'
import { progresses } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { countsOf, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const MINUTE = 60_000

interface Told {
  device: string
  topic: string
  message: { id: string; code: number; params: Record<string, unknown> }
}

/** Takes the messages since the last call; the broker takes all of them. */
async function takeMessages(fleet: RolloutFleet, result: 'taken' | 'offline' = 'taken'): Promise<Told[]> {
  const frames: NoticeFrame[] = [...(await fleet.unexpected())]
  fleet.bridge.frames.length = 0
  await fleet.postAll(frames.flatMap((frame) => [sent(frame), taken(frame, result)]))
  if (frames.length > 0) fleet.bridge.grant(frames.length)
  return frames.map(({ notice, topic, payload }) => ({
    device: notice.device,
    topic,
    message: JSON.parse(payload),
  }))
}

/** 1,000 devices in a task: 300 Pushed, 200 Upgrading, and 500 Pending in a wave that is not open. */
async function fleetAtWork(product: Record<string, unknown>, pkg: Record<string, unknown> = {}) {
  const fleet = await makeRolloutFleet(1000, product)
  const policy = { waves: [{ percent: 50 }, { percent: 100 }] }
  const task = await fleet.upgradeTo('v2', { policy }, pkg)
  const notices = await takeMessages(fleet)
  expect(notices).toHaveLength(500)
  const told = fleet.devices.filter(({ id }) => notices.some(({ device }) => device === id))
  await fleet.all(told.slice(300), (device) => progresses(device, 20, pkg))
  expect(await countsOf(task)).toEqual({ total: 1000, pending: 500, pushed: 300, upgrading: 200 })
  return { fleet, task, notices, told }
}

describe('the cancellation of a task with 300 Pushed, 200 Upgrading and 500 Pending devices', () => {
  it("a cancellation is sent to exactly the devices that had a notice, with an id greater than the notice's", async () => {
    const { fleet, task, notices } = await fleetAtWork({ notifyCancel: true }, { module: 'MCU' })
    expect((await task.post('/cancel')).status).toBe(200)
    const cancellations = await takeMessages(fleet)
    expect(cancellations).toHaveLength(500)
    const noticeOf = new Map(notices.map((notice) => [notice.device, notice]))
    expect(new Set(cancellations.map(({ device }) => device))).toEqual(new Set(noticeOf.keys()))
    for (const { device, topic, message } of cancellations) {
      const { id, ...rest } = message
      const notice = noticeOf.get(device)!
      expect(rest).toEqual({ code: 410, params: { version: 'v2', module: 'MCU' } })
      expect(id).toMatch(/^\d{10}$/)
      expect(Number(id)).toBeGreaterThan(Number(notice.message.id))
      expect(topic).toBe(notice.topic)
    }
    expect(await countsOf(task)).toEqual({ total: 1000, cancelled: 1000 })

    // It is sent once: neither a lease that runs out nor a second cancel repeats it.
    await fleet.wait(60 * MINUTE)
    await task.post('/cancel')
    expect(await takeMessages(fleet)).toEqual([])
  })

  it('no cancellation is sent if the product does not ask for it', async () => {
    const { fleet, task } = await fleetAtWork({})
    await task.post('/cancel')
    expect(await takeMessages(fleet)).toEqual([])
    await fleet.wait(60 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, cancelled: 1000 })
  })

  it('a device to which a newer task has sent a notice gets no cancellation of the older task afterwards', async () => {
    const { fleet, task, notices } = await fleetAtWork({ notifyCancel: true })
    // The newer task replaces the 300 Pushed devices and waits for the 200 Upgrading ones.
    const newer = await fleet.upgradeTo('v3')
    const replaced = await takeMessages(fleet)
    expect(Object.groupBy(replaced, ({ message }) => String(message.code))).toMatchObject({
      200: { length: 800 },
    })
    expect(replaced).toHaveLength(800)
    await task.post('/cancel')
    const after = await takeMessages(fleet)
    const codes = Map.groupBy(after, ({ message }) => `${message.code} ${message.params.version}`)
    // Each of the 200 gets the notice for v3, and at most the cancellation of v2 before it.
    expect(codes.get('200 v3')).toHaveLength(200)
    expect(await countsOf(newer)).toEqual({ total: 1000, pushed: 1000 })
    const lastOf = new Map(
      [...notices, ...replaced, ...after].map(({ device, message }) => [device, message]),
    )
    expect([...lastOf.values()].every(({ code, params }) => code === 200 && params.version === 'v3')).toBe(
      true,
    )
  })

  it('devices that are cancelled one by one get their cancellations one by one', async () => {
    const { fleet, task, told, notices } = await fleetAtWork({ notifyCancel: true })
    const pending = fleet.devices.find((device) => !told.includes(device))!
    for (const device of [told[0]!, told[499]!, pending]) await task.post(`/devices/${device.id}/cancel`)
    const cancellations = await takeMessages(fleet)
    expect(cancellations.map(({ device }) => device).sort()).toEqual([told[0]!.id, told[499]!.id].sort())
    for (const { message } of cancellations) {
      expect({ ...message, id: '' }).toEqual({
        id: '',
        code: 410,
        params: { version: 'v2', module: 'default' },
      })
    }
    expect(notices).toHaveLength(500)
    expect(await countsOf(task)).toEqual({
      total: 1000,
      pending: 499,
      pushed: 299,
      upgrading: 199,
      cancelled: 3,
    })
  })
})
