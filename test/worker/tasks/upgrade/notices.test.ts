import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { hubName, hubStub } from '../../../../src/hub/hub.ts'
import { type LabDevice, makeLab, progresses, reports, slotOf } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock, until } from '../../lab-clock.ts'

const MINUTE = 60_000

async function oneDevice(credit = 1000) {
  const lab = await makeLab(1, {}, credit)
  const [device] = lab.devices as [LabDevice]
  return { lab, device }
}

describe('a notice that the bridge holds', () => {
  it('a notice that the bridge does not confirm within 60 s goes out again under the same id', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2')
    const first = await lab.bridge.notice(device)
    moveClock(58_000)
    expect(await lab.unexpected()).toEqual([])
    moveClock(3_000)
    const second = await lab.bridge.notice(device)
    expect(second.notice.id).toBe(first.notice.id)
    expect((await task.device(device)).status).toBe('pending')
    // The bridge published both after all, which counts as one push.
    await lab.bridge.post([sent(first.frame), sent(second.frame), taken(first.frame), taken(second.frame)])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 })
    moveClock(2 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
  })

  it('a notice that the bridge returns goes out again at once', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2')
    const first = await lab.bridge.notice(device)
    await lab.bridge.post([taken(first.frame, 'returned')])
    const second = await lab.push(device)
    expect(second.notice.id).toBe(first.notice.id)
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 })
  })

  it('a notice is not sent again once progress shows that the device has it', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2')
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([sent(frame), progresses(device, 3)])
    moveClock(2 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([taken(frame)])
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 3, pushes: 1 })
  })

  it('a late confirmation of a notice changes nothing for a device that was cancelled or retried meanwhile', async () => {
    const { lab, device } = await oneDevice()
    const task = await lab.upgradeTo('v2')
    const late = await lab.bridge.notice(device)
    await task.post(`/devices/${device.id}/cancel`)
    await lab.bridge.post([sent(late.frame), taken(late.frame), progresses(device, 50)])
    expect(await task.device(device)).toMatchObject({ status: 'cancelled', step: null })
    await lab.unexpected()
    await task.post(`/devices/${device.id}/retry`)
    await lab.bridge.post([taken(late.frame)])
    expect((await task.device(device)).status).toBe('pending')
    const { notice } = await lab.push(device)
    expect(Number(notice.id)).toBeGreaterThan(Number(late.notice.id))
  })

  it('a notice expires together with the link that it carries', async () => {
    const { lab, device } = await oneDevice()
    await lab.upgradeTo('v2', { policy: { downloadTtlSeconds: 900 } })
    const { frame, notice } = await lab.bridge.notice(device)
    expect(frame.expiresInSeconds).toBeGreaterThan(890)
    expect(frame.expiresInSeconds).toBeLessThanOrEqual(900)
    expect(new URL(notice.params.url).searchParams.get('X-Amz-Expires')).toBe('900')
  })
})

describe('bridges', () => {
  it('a bridge without credit gets no notice until it grants some', async () => {
    const { lab, device } = await oneDevice(0)
    const task = await lab.upgradeTo('v2')
    expect(await lab.unexpected()).toEqual([])
    expect(await task.device(device)).toMatchObject({
      status: 'pending',
      waitingFor: 'its bridge is away or busy',
    })
    lab.bridge.grant(1)
    await lab.push(device)
  })

  it('a bridge that is away gets no notice until it is back', async () => {
    const { lab, device } = await oneDevice()
    lab.bridge.close()
    const hub = hubStub(env, hubName(lab.admin.tenantId, 'default'))
    await until('the hub has noticed that the bridge is gone', async () => !(await hub.status()).connected)
    await lab.upgradeTo('v2')
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.connect()
    await lab.push(device)
  })

  it("a task asks the hub again after half a minute if the hub's call about new credit was lost", async () => {
    const { lab, device } = await oneDevice(0)
    await lab.upgradeTo('v2')
    await lab.unexpected()
    const hub = hubStub(env, hubName(lab.admin.tenantId, 'default'))
    await runInDurableObject(hub, (_, { storage }) => void storage.kv.delete('waiters'))
    lab.bridge.grant(5)
    await until('the hub has credit', async () => (await hub.status()).credit === 5)
    expect(await lab.unexpected()).toEqual([])
    moveClock(31_000)
    await lab.push(device)
  })

  it('a bridge with little credit gets the remaining notices as it settles those that it holds, without a pause', async () => {
    const lab = await makeLab(60, {}, 4)
    const task = await lab.upgradeTo('v2')
    let most = 0
    await until('all devices are Pushed', async () => {
      const frames = lab.bridge.frames.splice(0)
      most = Math.max(most, frames.length)
      for (const frame of frames) {
        lab.bridge.grant(1)
        await lab.bridge.publish(frame)
      }
      return (await task.get()).counts.pushed === 60
    })
    expect(most).toBeLessThanOrEqual(4)
    expect(await lab.unexpected()).toEqual([])
  })

  it('an upgrade goes on although hub and task lose their memory at every step', async () => {
    const lab = await makeLab(3)
    const task = await lab.upgradeTo('v2')
    const hub = hubStub(env, hubName(lab.admin.tenantId, 'default'))
    for (const device of lab.devices) {
      const { frame } = await lab.bridge.notice(device)
      await evictDurableObject(env.UPGRADE_TASK.getByName(task.id))
      await evictDurableObject(hub)
      await lab.bridge.post([sent(frame)])
      await evictDurableObject(env.UPGRADE_TASK.getByName(task.id))
      await lab.bridge.post([taken(frame), progresses(device, 50)])
      await evictDurableObject(env.UPGRADE_TASK.getByName(task.id))
      await lab.bridge.post([reports(device, 'v1')])
      await lab.push(device)
      await lab.bridge.post([progresses(device, 100)])
    }
    await task.becomes('finished')
    expect((await task.get()).counts).toMatchObject({ total: 3, success: 3 })
  })
})

describe('notice ids', () => {
  it('the notice ids of a device grow over re-sent notices, retries and tasks', async () => {
    const { lab, device } = await oneDevice()
    const ids: string[] = []
    const push = async () => void ids.push((await lab.push(device)).notice.id)
    const first = await lab.upgradeTo('v2')
    await push()
    await lab.bridge.post([reports(device, 'v1')])
    await push()
    await lab.bridge.post([progresses(device, -1)])
    await first.post('/retry')
    await push()
    await lab.upgradeTo('v3')
    await push()
    await lab.upgradeTo('v4', {}, { module: 'MCU' })
    await push()
    expect(ids.every((id) => /^\d{10}$/.test(id))).toBe(true)
    expect(ids).toEqual([...new Set(ids)].sort())
  })

  it('a notice id is greater than any that the device had from another bridge, for whichever module', async () => {
    const { lab, device } = await oneDevice()
    await lab.upgradeTo('v2', {}, { module: 'MCU' })
    await lab.push(device)
    const farAhead = Math.floor(Date.now() / 1000) + 5_000_000
    await env.DB.prepare('UPDATE upgrades SET last_notice_id = ? WHERE device_id = ?')
      .bind(farAhead, device.id)
      .run()
    await lab.upgradeTo('v3')
    const { notice } = await lab.push(device)
    expect(Number(notice.id)).toBeGreaterThan(farAhead)
    expect((await slotOf(device))?.last_notice_id).toBe(Number(notice.id))
  })
})
