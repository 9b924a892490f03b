import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, progresses, reports, subscribes } from '../../lab.ts'

const SECOND = 1000
const MINUTE = 60_000

async function pushed(more: Record<string, unknown> = {}) {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([subscribes(device)])
  const task = await lab.upgradeTo('v2', more)
  await lab.push(device)
  return { lab, device, task }
}

describe('a device that is back right after its notice was taken', () => {
  it('is told again when 60 s are over, since the notice may have gone into a dead connection', async () => {
    const { lab, device, task } = await pushed()
    await lab.bridge.idleFor(20 * SECOND)
    await lab.bridge.post([subscribes(device)])
    await lab.bridge.idleFor(30 * SECOND)
    expect(await lab.unexpected()).toEqual([])
    expect((await task.device(device)).waitingFor).toMatch(/told just now/)
    await lab.bridge.idleFor(20 * SECOND)
    await lab.push(device)
    expect((await task.device(device)).status).toBe('pushed')
  })

  it('is not told again if it has begun, or has said anything', async () => {
    const { lab, device, task } = await pushed()
    await lab.bridge.post([subscribes(device), progresses(device, 0)])
    await lab.bridge.idleFor(2 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
    expect((await task.device(device)).status).toBe('upgrading')
  })

  it('gets the notice at once when it reports another version, and that counts as a re-push', async () => {
    const { lab, device, task } = await pushed()
    await lab.bridge.post([subscribes(device), reports(device, 'v1')])
    await lab.push(device)
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 2 })
  })
})

describe('a device that is connected and keeps silent', () => {
  it('is reminded after its timeout, three times at most', async () => {
    const { lab, device, task } = await pushed({ policy: { deviceTimeoutMinutes: 10 } })
    for (let reminder = 0; reminder < 3; reminder++) {
      await lab.bridge.idleFor(11 * MINUTE)
      await lab.push(device)
    }
    await lab.bridge.idleFor(60 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 4 })
  })

  it('is not reminded while it is away', async () => {
    const { lab, device } = await pushed({ policy: { deviceTimeoutMinutes: 10 } })
    await lab.bridge.post([{ kind: 'presence', event: 'disconnected', username: device.token }])
    await lab.bridge.idleFor(60 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
  })
})
