import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, over, progresses, reports, slotOf } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock, until } from '../../lab-clock.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE

async function upgrading(policy: Record<string, unknown> = {}) {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2', { policy })
  await lab.push(device)
  await lab.bridge.post([progresses(device, 10)])
  return { lab, device, task }
}

describe('devices that fall silent', () => {
  it('an Upgrading device that is silent for an hour is a Failure, "timed out", and its slot is free', async () => {
    const { lab, device, task } = await upgrading()
    await lab.bridge.idleFor(59 * MINUTE)
    await lab.unexpected()
    expect((await task.device(device)).status).toBe('upgrading')
    await lab.bridge.idleFor(2 * MINUTE)
    await task.becomes('finished')
    expect(await task.device(device)).toMatchObject({ status: 'failure', description: 'timed out' })
    expect(await lab.unexpected()).toEqual([])
    expect(await slotOf(device)).toMatchObject({ active: 0, doubt_version: 'v2' })
  })

  it("a device's silence counts from its latest message, and the task sets how long it may last", async () => {
    const { lab, device, task } = await upgrading({ deviceTimeoutMinutes: 5 })
    for (const step of [20, 30, 40]) {
      await lab.bridge.idleFor(4 * MINUTE)
      await lab.bridge.post([progresses(device, step)])
      await lab.unexpected()
    }
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 40 })
    await lab.bridge.idleFor(6 * MINUTE)
    await task.reaches(device, 'failure')
  })

  it('a device that is only Pushed never times out', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    moveClock(30 * 24 * HOUR)
    await lab.bridge.post([])
    await lab.bridge.idleFor(2 * HOUR)
    expect(await lab.unexpected()).toEqual([])
    expect((await task.device(device)).status).toBe('pushed')
  })

  it('a device that timed out becomes a Success, "late", when it reports the target version', async () => {
    const { lab, device, task } = await upgrading()
    await lab.bridge.idleFor(61 * MINUTE)
    await task.reaches(device, 'failure')
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('failure')
    await lab.bridge.post([reports(device, 'v2')])
    expect(await task.device(device)).toMatchObject({ status: 'success', description: 'late' })
    await lab.unexpected()
    expect(await slotOf(device)).toMatchObject({ succeeded_task_id: task.id, doubt_version: null })
    expect((await task.get()).counts).toMatchObject({ total: 1, success: 1, failure: 0 })
  })

  it('a device that timed out stays a Failure if a later upgrade took the slot', async () => {
    const { lab, device, task } = await upgrading()
    await lab.bridge.idleFor(61 * MINUTE)
    await task.becomes('finished')
    const later = await lab.upgradeTo('v3')
    await lab.push(device)
    await lab.bridge.post([reports(device, 'v2')])
    expect(await task.device(device)).toMatchObject({ status: 'failure', description: 'timed out' })
    expect((await later.device(device)).status).toBe('pushed')
  })

  it('a device on HTTPS times out without word from a bridge', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    lab.bridge.close()
    const task = await lab.upgradeTo('v2')
    await task.reaches(device, 'pending')
    await over(device)('GET', '/device/v1/upgrade')
    expect((await over(device)('POST', '/device/v1/progress', { step: 10 })).status).toBe(200)
    moveClock(59 * MINUTE)
    await lab.unexpected()
    expect((await task.device(device)).status).toBe('upgrading')
    moveClock(2 * MINUTE)
    await task.reaches(device, 'failure')
  })
})

describe('outages', () => {
  it('an outage of the Worker for two hours during 1,000 upgrades makes no device time out', async () => {
    const lab = await makeLab(1000)
    const task = await lab.upgradeTo('v2')
    let published = 0
    await until('all devices are Pushed', async () => {
      await lab.bridge.flushed()
      const frames = lab.bridge.frames.splice(0)
      published += frames.length
      for (let at = 0; at < frames.length; at += 400) {
        await lab.bridge.post(frames.slice(at, at + 400).flatMap((frame) => [sent(frame), taken(frame)]))
      }
      return (await task.get()).counts.pushed === 1000
    })
    expect(published).toBe(1000)
    await lab.bridge.post(lab.devices.map((device) => progresses(device, 10)))
    expect((await task.get()).counts).toMatchObject({ upgrading: 1000 })

    moveClock(2 * HOUR)
    await lab.unexpected()
    expect((await task.get()).counts).toMatchObject({ upgrading: 1000, failure: 0 })
    // First half of the bridge's spool arrives, then the rest.
    const [early, late] = [lab.devices.slice(0, 500), lab.devices.slice(500)]
    await lab.bridge.post(
      early.map((device) => progresses(device, 100)),
      Date.now() - HOUR,
    )
    await lab.unexpected()
    expect((await task.get()).counts).toMatchObject({ upgrading: 500, success: 500, failure: 0 })
    moveClock(1000)
    await lab.bridge.post(late.slice(0, 400).map((device) => progresses(device, 100)))
    await lab.unexpected()
    expect((await task.get()).counts).toMatchObject({ upgrading: 100, success: 900, failure: 0 })
    // After the outage each silence is counted anew.
    await lab.bridge.idleFor(58 * MINUTE)
    await lab.unexpected()
    expect((await task.get()).counts).toMatchObject({ upgrading: 100, failure: 0 })
    await lab.bridge.post(late.slice(400).map((device) => progresses(device, 100)))
    await task.becomes('finished')
    expect((await task.get()).counts).toMatchObject({ total: 1000, success: 1000 })
  })

  it('an outage of the broker, during which `upTo` stands still, makes no device time out', async () => {
    const { lab, device, task } = await upgrading()
    const stood = Date.now()
    for (let step = 0; step < 36; step++) {
      moveClock(5 * MINUTE)
      await lab.bridge.post([], stood)
      await lab.unexpected()
    }
    expect((await task.device(device)).status).toBe('upgrading')
    await lab.bridge.post([])
    await lab.unexpected()
    expect((await task.device(device)).status).toBe('upgrading')
    await lab.bridge.idleFor(61 * MINUTE)
    await task.reaches(device, 'failure')
  })

  it('an outage does not end by an `upTo` in the future or in the far past', async () => {
    const { lab, device, task } = await upgrading()
    await lab.bridge.post([], Date.now() + 1000 * HOUR)
    moveClock(3 * HOUR)
    await lab.unexpected()
    await lab.bridge.post([], 0)
    await lab.unexpected()
    expect((await task.device(device)).status).toBe('upgrading')
  })
})
