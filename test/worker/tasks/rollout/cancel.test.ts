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

/** What came since the last call; the broker took all of it. */
async function takeMessages(fleet: RolloutFleet, result: 'taken' | 'offline' = 'taken'): Promise<Told[]> {
  const frames: NoticeFrame[] = [...(await fleet.unexpected())]
  fleet.bridge.frames.length = 0
  await fleet.postAll(frames.flatMap((frame) => [sent(frame), taken(frame, result)]))
  if (frames.length > 0) fleet.bridge.grant(frames.length)
  return frames.map(({ notice, topic, payload }) => ({
    ...{ device: notice.device, topic, message: JSON.parse(payload) },
  }))
}

/** 1,000 devices in a task: 300 Pushed, 200 Upgrading, and 500 Pending of a wave that is not open. */
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
  it('is told to just the 500 that had a notice, with an id greater than the notice’s', async () => {
    const { fleet, task, notices } = await fleetAtWork({ notifyCancel: true }, { module: 'MCU' })
    expect((await task.post('/cancel')).status).toBe(200)
    const farewells = await takeMessages(fleet)
    expect(farewells).toHaveLength(500)
    const noticeOf = new Map(notices.map((notice) => [notice.device, notice]))
    expect(new Set(farewells.map(({ device }) => device))).toEqual(new Set(noticeOf.keys()))
    for (const { device, topic, message } of farewells) {
      const { id, ...rest } = message
      const notice = noticeOf.get(device)!
      expect(rest).toEqual({ code: 410, params: { version: 'v2', module: 'MCU' } })
      expect(id).toMatch(/^\d{10}$/)
      expect(Number(id)).toBeGreaterThan(Number(notice.message.id))
      expect(topic).toBe(notice.topic)
    }
    expect(await countsOf(task)).toEqual({ total: 1000, cancelled: 1000 })

    // Once: neither a lease nor a repeat makes it twice.
    await fleet.wait(60 * MINUTE)
    await task.post('/cancel')
    expect(await takeMessages(fleet)).toEqual([])
  })

  it('is told to nobody where the product does not say so', async () => {
    const { fleet, task } = await fleetAtWork({})
    await task.post('/cancel')
    expect(await takeMessages(fleet)).toEqual([])
    await fleet.wait(60 * MINUTE)
    expectNone(await fleet.takeNotices())
    expect(await countsOf(task)).toEqual({ total: 1000, cancelled: 1000 })
  })

  it('is not told to those whom a newer task has told something else since', async () => {
    const { fleet, task, notices } = await fleetAtWork({ notifyCancel: true })
    // The newer one replaces the 300 Pushed, and waits for the 200 Upgrading.
    const newer = await fleet.upgradeTo('v3')
    const replaced = await takeMessages(fleet)
    expect(Object.groupBy(replaced, ({ message }) => String(message.code))).toMatchObject({
      200: { length: 800 },
    })
    expect(replaced).toHaveLength(800)
    await task.post('/cancel')
    const after = await takeMessages(fleet)
    const codes = Map.groupBy(after, ({ message }) => `${message.code} ${message.params.version}`)
    // Each of the 200 hears of v3, and of the end of v2 at most before.
    expect(codes.get('200 v3')).toHaveLength(200)
    expect(await countsOf(newer)).toEqual({ total: 1000, pushed: 1000 })
    const lastOf = new Map(
      [...notices, ...replaced, ...after].map(({ device, message }) => [device, message]),
    )
    expect([...lastOf.values()].every(({ code, params }) => code === 200 && params.version === 'v3')).toBe(
      true,
    )
  })

  it('is told one by one where devices are cancelled one by one', async () => {
    const { fleet, task, told, notices } = await fleetAtWork({ notifyCancel: true })
    const pending = fleet.devices.find((device) => !told.includes(device))!
    for (const device of [told[0]!, told[499]!, pending]) await task.post(`/devices/${device.id}/cancel`)
    const farewells = await takeMessages(fleet)
    expect(farewells.map(({ device }) => device).sort()).toEqual([told[0]!.id, told[499]!.id].sort())
    for (const { message } of farewells) {
      expect({ ...message, id: '' }).toEqual({
        id: '',
        code: 410,
        params: { version: 'v2', module: 'default' },
      })
    }
    expect(notices).toHaveLength(500)
    expect(await countsOf(task)).toEqual({
      ...{ total: 1000, pending: 499, pushed: 299, upgrading: 199, cancelled: 3 },
    })
  })
})
