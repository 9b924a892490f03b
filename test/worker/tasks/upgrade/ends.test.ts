import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, outcomeOf, progresses, reports, says, slotOf } from '../../lab.ts'

const NO_DEVICES = { total: 0, pending: 0, pushed: 0, upgrading: 0, success: 0, failure: 0, cancelled: 0 }

describe('six devices, one for each end', () => {
  it('a task counts its devices by the ways they ended, and a retry of the failed ones succeeds', async () => {
    const lab = await makeLab(6)
    const [good, failed, undownloaded, unverified, unwritten, cancelled] = lab.devices as [
      LabDevice,
      LabDevice,
      LabDevice,
      LabDevice,
      LabDevice,
      LabDevice,
    ]
    await lab.bridge.post(lab.devices.map((device) => reports(device, 'v1.0.0')))
    const task = await lab.upgradeTo('v1.1.0')
    for (const device of lab.devices) await lab.push(device)
    await lab.bridge.post([
      progresses(good, 10),
      progresses(failed, 20),
      progresses(good, 100),
      progresses(failed, -1),
      progresses(undownloaded, '-2'),
      progresses(unverified, -3),
      progresses(unwritten, '-4'),
    ])
    const byOperator = await task.post(`/devices/${cancelled.id}/cancel`)
    expect(byOperator.body).toMatchObject({ status: 'cancelled', description: 'cancelled by an operator' })

    const ends: [LabDevice, string, string | null, number | null][] = [
      [good, 'success', 'at 100', 100],
      [failed, 'failure', 'upgrade failed: at -1', -1],
      [undownloaded, 'failure', 'download failed: at -2', -2],
      [unverified, 'failure', 'verification failed: at -3', -3],
      [unwritten, 'failure', 'write failed: at -4', -4],
      [cancelled, 'cancelled', 'cancelled by an operator', null],
    ]
    for (const [device, status, description, step] of ends) {
      expect(await task.device(device)).toMatchObject({ status, description, step, fromVersion: 'v1.0.0' })
    }
    expect((await task.get()).counts).toEqual({
      ...NO_DEVICES,
      total: 6,
      success: 1,
      failure: 4,
      cancelled: 1,
    })
    await task.becomes('finished')
    await lab.unexpected()
    for (const [device, status, description] of ends) {
      expect(await outcomeOf(task, device)).toMatchObject({ status, description, attempt: 1 })
      expect(await slotOf(device)).toMatchObject({ task_id: task.id, active: 0 })
    }

    expect((await task.post('/retry')).body).toEqual({ retried: 4, skipped: [] })
    expect(await task.get()).toMatchObject({ status: 'running', finishedAt: null })
    for (const device of [failed, undownloaded, unverified, unwritten]) {
      await lab.push(device)
      expect(await task.device(device)).toMatchObject({ status: 'pushed', attempt: 2, pushes: 1, step: null })
      await lab.bridge.post([progresses(device, 100)])
    }
    await task.becomes('finished')
    expect(await lab.unexpected()).toEqual([])
    expect((await task.get()).counts).toEqual({ ...NO_DEVICES, total: 6, success: 5, cancelled: 1 })
    expect(await outcomeOf(task, failed)).toMatchObject({ status: 'success', attempt: 2 })
    const stored = await lab.admin.call('GET', `/api/v1/tasks?productId=${lab.productId}`)
    expect(stored.body.items[0]).toMatchObject({
      id: task.id,
      status: 'finished',
      counts: { success: 5, cancelled: 1 },
    })
  })

  it('a retry includes cancelled devices if the operator asks for that', async () => {
    const lab = await makeLab(2)
    const [first, second] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(first)
    await lab.push(second)
    await task.post(`/devices/${first.id}/cancel`)
    await lab.bridge.post([progresses(second, -1)])
    expect((await task.post('/retry?include=cancelled')).body).toEqual({ retried: 2, skipped: [] })
    await lab.push(first)
    await lab.push(second)
    expect((await task.get()).counts).toEqual({ ...NO_DEVICES, total: 2, pushed: 2 })
    expect((await task.post(`/devices/${first.id}/retry`)).body.code).toBe('device.not_failed')
  })
})

describe('progress', () => {
  it('progress is read as text, a number or a fraction, flat or wrapped', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    const heard: [unknown, number][] = [
      [{ step: 0 }, 0],
      [{ step: '7' }, 7],
      [{ step: 12.9 }, 12],
      [{ step: '99.9' }, 99],
      [{ id: '1', params: { step: '55', desc: 'wrapped', module: 'default' } }, 55],
      [{ id: 'x'.repeat(500), params: { step: 56 }, stray: [1] }, 56],
    ]
    for (const [message, step] of heard) {
      const [result] = await lab.bridge.post([says(device, 'ota/device/progress', message)])
      expect(result).toMatchObject({ status: 'taken' })
      expect(await task.device(device)).toMatchObject({ status: 'upgrading', step })
    }
    await lab.bridge.post([progresses(device, 57, { desc: 'ä'.repeat(500) })])
    expect((await task.device(device)).description).toBe('ä'.repeat(128))
  })

  it('progress of a device that was sent nothing changes no state', async () => {
    const lab = await makeLab(1, {}, 0)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await task.reaches(device, 'pending')
    for (const step of [0, 50, 100, -1]) await lab.bridge.post([progresses(device, step)])
    expect(await task.device(device)).toMatchObject({ status: 'pending', step: null, pushes: 0 })
  })

  it('progress counts once it comes after `sent`, even before the PUBACK', async () => {
    const lab = await makeLab(2)
    const [first, second] = lab.devices as [LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2')
    const { frame } = await lab.bridge.notice(first)
    await lab.bridge.post([
      progresses(first, 100),
      { kind: 'sent', notice: frame.notice },
      progresses(first, 0),
    ])
    expect(await task.device(first)).toMatchObject({ status: 'upgrading', step: 0 })
    const other = await lab.bridge.notice(second)
    await lab.bridge.post([{ kind: 'sent', notice: other.frame.notice }, progresses(second, 100)])
    expect(await task.device(second)).toMatchObject({ status: 'success', pushes: 1 })
  })

  it("progress after the end stays in the device's history and changes nothing", async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, -3), progresses(device, 40), progresses(device, 100)])
    const { status, step, events } = await task.device(device)
    expect({ status, step }).toEqual({ status: 'failure', step: -3 })
    const said = events.filter(({ kind }: { kind: string }) => kind === 'progress')
    expect(said.map(({ detail }: { detail: string }) => detail)).toEqual([
      '-3 at -3',
      '40 at 40',
      '100 at 100',
    ])
    expect((await task.get()).counts).toEqual({ ...NO_DEVICES, total: 1, failure: 1 })
  })
})

describe('the target version', () => {
  it('a report of the target version makes a Success from Pending, Pushed and Upgrading', async () => {
    const lab = await makeLab(3, {}, 2)
    const task = await lab.upgradeTo('v2')
    await lab.unexpected()
    const told = lab.bridge.frames.map((frame) => lab.devices.find(({ id }) => id === frame.notice.device)!)
    const pending = lab.devices.find((device) => !told.includes(device))!
    const [pushed, upgrading] = told as [LabDevice, LabDevice]
    await lab.push(pushed)
    await lab.push(upgrading)
    await lab.bridge.post([progresses(upgrading, 5)])
    expect((await task.get()).counts).toEqual({
      ...NO_DEVICES,
      total: 3,
      pending: 1,
      pushed: 1,
      upgrading: 1,
    })
    await lab.bridge.post(lab.devices.map((device) => reports(device, ' v2 ')))
    expect(await task.device(pending)).toMatchObject({
      status: 'success',
      description: 'already on the target version',
      pushes: 0,
    })
    expect(await task.device(pushed)).toMatchObject({ status: 'success', pushes: 1 })
    expect(await task.device(upgrading)).toMatchObject({ status: 'success', description: 'at 5' })
    await task.becomes('finished')
  })

  it('the reported version is compared exactly', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([reports(device, 'V2')])
    expect((await task.device(device)).status).toBe('pushed')
    await lab.push(device)
  })

  it('a device that already runs the target version succeeds without a notice', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v2')])
    const task = await lab.upgradeTo('v2')
    await task.becomes('finished')
    expect(await task.device(device)).toMatchObject({
      status: 'success',
      description: 'already on the target version',
      pushes: 0,
    })
    expect(await lab.unexpected()).toEqual([])
  })
})
