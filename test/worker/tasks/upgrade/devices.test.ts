import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import {
  type LabDevice,
  makeLab,
  outcomeOf,
  over,
  progresses,
  reports,
  requests,
  slotOf,
  subscribes,
} from '../../lab.ts'
import { taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'

const MINUTE = 60_000

async function pushed() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2')
  const first = await lab.push(device)
  const change = (changes: Record<string, unknown>) =>
    lab.admin.call('PATCH', `/api/v1/devices/${device.id}`, changes)
  return { lab, device, task, first, change }
}

describe('a device that is disabled', () => {
  it('a Pushed device that is disabled is sent nothing and its messages are rejected, until it is enabled', async () => {
    const { lab, device, task, change } = await pushed()
    expect((await change({ enabled: false })).status).toBe(200)
    moveClock(2 * MINUTE)
    const results = await lab.bridge.post([
      reports(device, 'v1'),
      progresses(device, 50),
      requests(device, '1'),
      subscribes(device),
    ])
    expect(results.slice(0, 3)).toMatchObject(
      [1, 2, 3].map(() => ({ status: 'rejected', reason: 'device disabled' })),
    )
    for (const [method, path] of [
      ['GET', '/device/v1/upgrade'],
      ['POST', '/device/v1/inform'],
      ['POST', '/device/v1/progress'],
    ] as const) {
      const body = method === 'POST' ? { step: 5, params: { version: 'v1' } } : undefined
      expect((await over(device)(method, path, body)).status).toBe(403)
    }
    expect(await lab.unexpected()).toEqual([])
    expect(lab.bridge.drops).toEqual([device.token])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', step: null, pushes: 1 })
    expect(await slotOf(device)).toMatchObject({ active: 1 })
    await change({ enabled: true })
    await lab.bridge.post([subscribes(device)])
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
  })

  it('a notice whose lease runs out is not sent again to a disabled device until it is enabled', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const first = await lab.bridge.notice(device)
    const path = `/api/v1/devices/${device.id}`
    await lab.admin.call('PATCH', path, { enabled: false })
    moveClock(61_000)
    expect(await lab.unexpected()).toEqual([])
    expect((await task.device(device)).waitingFor).toBe('the device is disabled')
    await lab.admin.call('PATCH', path, { enabled: true })
    expect((await lab.push(device)).notice.id).toBe(first.notice.id)
  })
})

describe('a device that is deleted', () => {
  it('a deleted device turns Cancelled in its tasks, which keep its number', async () => {
    const { lab, device, task } = await pushed()
    expect((await lab.admin.call('DELETE', `/api/v1/devices/${device.id}`)).status).toBe(204)
    await task.becomes('finished')
    expect(await task.device(device)).toMatchObject({
      status: 'cancelled',
      description: 'device deleted',
      number: device.number,
    })
    const [result] = await lab.bridge.post([progresses(device, 100)])
    expect(result).toMatchObject({ status: 'rejected', reason: 'unknown device' })
    expect((await over(device)('GET', '/device/v1/upgrade')).status).toBe(401)
    await lab.unexpected()
    expect(await outcomeOf(task, device)).toMatchObject({
      status: 'cancelled',
      description: 'device deleted',
    })
    expect(await slotOf(device)).toMatchObject({ active: 0 })
    expect((await task.post('/retry?include=cancelled')).body).toEqual({
      retried: 0,
      skipped: [{ code: 'device_deleted_or_moved', reason: 'the device was deleted or moved', count: 1 }],
    })
    expect(lab.bridge.drops).toEqual([device.token])
  })

  it('a task that was not told of a deletion finds out before it sends a notice', async () => {
    const lab = await makeLab(1, {}, 0)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.unexpected()
    await env.DB.prepare('DELETE FROM devices WHERE id = ?').bind(device.id).run()
    lab.bridge.grant(1)
    await task.reaches(device, 'cancelled')
    expect(await lab.unexpected()).toEqual([])
  })
})

describe('a device whose token is rotated', () => {
  it('a device with a rotated token is refused with the old token at once, and gets its notice on the new topic', async () => {
    const { lab, device, task } = await pushed()
    const rotated = await lab.admin.call('POST', `/api/v1/devices/${device.id}/rotate-token`)
    const again = { ...device, token: rotated.body.accessToken as string }
    expect(lab.bridge.drops).toEqual([device.token])
    const [old, now] = await lab.bridge.post([progresses(device, 100), reports(again, 'v1')])
    expect(old).toMatchObject({ status: 'rejected', reason: 'unknown device' })
    expect(now).toMatchObject({ status: 'taken' })
    expect((await over(device)('GET', '/device/v1/upgrade')).status).toBe(401)
    const { frame } = await lab.push(again)
    expect(frame).toMatchObject({ topic: `ota/device/inform/${again.token}`, username: again.token })
    await lab.bridge.post([progresses(again, 100)])
    expect((await task.device(device)).status).toBe('success')
  })

  it('a device whose notice went to the topic of its old token gets it when it turns up with the new token', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.upgradeTo('v2')
    const { frame } = await lab.bridge.notice(device)
    const rotated = await lab.admin.call('POST', `/api/v1/devices/${device.id}/rotate-token`)
    await lab.bridge.post([taken(frame, 'offline')])
    await lab.bridge.post([subscribes({ ...device, token: rotated.body.accessToken })])
    expect((await lab.push(device)).frame.username).toBe(rotated.body.accessToken)
  })
})

describe('a device that moves to another product', () => {
  const otherProduct = async (lab: Awaited<ReturnType<typeof makeLab>>) =>
    (await lab.admin.call('POST', '/api/v1/products', { name: 'desk' })).body.id as string

  it('a device with an active upgrade cannot move to another product', async () => {
    const { lab, device, task, change } = await pushed()
    const productId = await otherProduct(lab)
    expect((await change({ productId, name: 'other' })).body).toMatchObject({
      status: 409,
      code: 'device.busy',
    })
    const { body } = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(body).toMatchObject({ productId: lab.productId, name: null })
    expect((await task.device(device)).status).toBe('pushed')
    await lab.bridge.post([progresses(device, 100)])
    await lab.unexpected()
    expect((await change({ productId })).body.productId).toBe(productId)
    expect((await task.device(device)).status).toBe('success')
  })

  it('a Pending device without a slot that moves to another product turns Cancelled', async () => {
    const lab = await makeLab(1, {}, 0)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.unexpected()
    const productId = await otherProduct(lab)
    const moved = await lab.admin.call('PATCH', `/api/v1/devices/${device.id}`, { productId })
    expect(moved.body.productId).toBe(productId)
    expect(await task.device(device)).toMatchObject({
      status: 'cancelled',
      description: 'moved to another product',
    })
    lab.bridge.grant(5)
    expect(await lab.unexpected()).toEqual([])
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
  })
})

describe('a product that is frozen', () => {
  it('a frozen product sends nothing for any of its tasks until it is unfrozen', async () => {
    const lab = await makeLab(2)
    const [waits, asks] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(asks)
    await lab.bridge.post([progresses(asks, 10)])
    const { frame } = await lab.bridge.notice(waits)
    const product = `/api/v1/products/${lab.productId}`
    expect((await lab.admin.call('POST', `${product}/freeze`)).status).toBe(200)
    await lab.bridge.post([
      taken(frame, 'offline'),
      subscribes(waits),
      reports(asks, 'v1'),
      requests(asks, '8'),
    ])
    const later = await lab.upgradeTo('v3')
    moveClock(2 * MINUTE)
    expect(await lab.unexpected()).toEqual([])
    expect(lab.bridge.replies).toMatchObject([{ payload: '{"id":"8","code":200,"params":{}}' }])
    for (const device of lab.devices) {
      expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    }
    expect((await task.device(waits)).waitingFor).toBe('the product is frozen')
    // Messages of its devices still count.
    await lab.bridge.post([progresses(asks, 60)])
    expect(await task.device(asks)).toMatchObject({ status: 'upgrading', step: 60 })
    expect((await later.device(waits)).status).toBe('pending')
    await lab.admin.call('POST', `${product}/unfreeze`)
    expect((await lab.push(waits)).notice.params.version).toBe('v3')
  })
})
