import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, outcomeOf, progresses, reports, requests } from '../../lab.ts'

const MINUTE = 60_000
const tagged = (tag: string) => ({ devices: { filter: { tags: [tag] } }, policy: { dynamic: true } })

describe('a task downgrades no device', () => {
  it('a device on the target of a newer dynamic task that joins an older one by its tag stays as it is', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const older = await lab.upgradeTo('v2', tagged('beta'))
    const newer = await lab.upgradeTo('v3', tagged('beta'))
    await lab.bridge.post([reports(device, 'v3')])
    await lab.admin.call('PATCH', `/api/v1/devices/${device.id}`, { tags: ['beta'] })
    await older.reaches(device, 'cancelled')
    await newer.reaches(device, 'success')
    expect(await older.device(device)).toMatchObject({
      because: { code: 'superseded_by', params: { taskId: newer.id } },
    })
    expect(await lab.unexpected()).toEqual([])
  })

  it('a device that ended as Cancelled in the newer task and then reports its target is left by an older one', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const older = await lab.upgradeTo('v2', { startAt: new Date(Date.now() + 10 * MINUTE).toISOString() })
    const newer = await lab.upgradeTo('v3')
    await lab.push(device)
    await newer.post('/cancel')
    await newer.reaches(device, 'cancelled')
    await lab.bridge.post([reports(device, 'v3')])
    await lab.bridge.idleFor(11 * MINUTE)
    await older.reaches(device, 'cancelled')
    expect((await older.device(device)).description).toBe(`superseded by ${newer.id}`)
    expect(await lab.unexpected()).toEqual([])
  })

  it('the later created of two tasks wins, whichever starts first', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const sunday = await lab.upgradeTo('v2', { startAt: new Date(Date.now() + 10 * MINUTE).toISOString() })
    const today = await lab.upgradeTo('v3')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100), reports(device, 'v3')])
    await today.reaches(device, 'success')
    await lab.bridge.idleFor(11 * MINUTE)
    await sunday.reaches(device, 'cancelled')
    expect(await lab.unexpected()).toEqual([])
  })

  it('a task that was created last, on purpose, brings a device back to an earlier version', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const forward = await lab.upgradeTo('v3')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100), reports(device, 'v3')])
    await forward.reaches(device, 'success')
    const back = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([reports(device, 'v2')])
    await back.reaches(device, 'success')
  })
})

describe('a task before its start', () => {
  it('a paused task of next week takes no Success and no rank from today’s hotfix', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const nextWeek = new Date(Date.now() + 7 * 24 * 60 * MINUTE).toISOString()
    const week = await lab.upgradeTo('v2', { startAt: nextWeek })
    await week.post('/pause')
    await lab.unexpected()
    await lab.bridge.post([reports(device, 'v2'), requests(device, '1')])
    await lab.unexpected()
    expect(await week.device(device)).toMatchObject({ status: 'pending' })
    expect(await outcomeOf(week, device)).toBeNull()
    await lab.bridge.post([reports(device, 'v1')])
    const hotfix = await lab.upgradeTo('v1.1')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    await hotfix.reaches(device, 'success')
  })
})

describe('marks that go again', () => {
  it('the mark "rolled back" goes everywhere when the device reports the target after all', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const task = await lab.upgradeTo('v2', { policy: { haltOn: { failurePercent: 10 } } })
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100), reports(device, 'v1')])
    expect(await task.get()).toMatchObject({ rolledBack: 1, succeeded: 0, failed: 1 })
    await lab.bridge.post([reports(device, 'v2')])
    await lab.unexpected()
    expect(await task.get()).toMatchObject({ rolledBack: 0, succeeded: 1, failed: 0 })
    expect(await task.device(device)).toMatchObject({ status: 'success', rolledBack: false })
    expect(await outcomeOf(task, device)).toMatchObject({ status: 'success', rolled_back: 0 })
    const { body } = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(body.modules[0]).not.toHaveProperty('rolledBack')
  })

  it('a −3 after 100 % marks the Success as rolled back', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100), progresses(device, -3, { desc: 'bad block' })])
    expect(await task.device(device)).toMatchObject({
      status: 'success',
      rolledBack: true,
      description: 'reported 100 %, then verification failed: bad block',
    })
    expect(await task.get()).toMatchObject({ rolledBack: 1, failed: 1, succeeded: 0 })
  })

  it('a failed device whose automatic retry waits is a Success once it reports the target', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2', { policy: { autoRetry: { times: 2, backoffMinutes: 10 } } })
    await lab.push(device)
    await lab.bridge.post([progresses(device, -2), progresses(device, 100), reports(device, 'v2')])
    await task.reaches(device, 'success')
    await task.becomes('finished')
    expect(await lab.unexpected()).toEqual([])
  })

  it('an operator may retry a rolled-back device, one by one or with all failed ones', async () => {
    const lab = await makeLab(2)
    const [one, two] = lab.devices as [LabDevice, LabDevice]
    await lab.bridge.post([reports(one, 'v1'), reports(two, 'v1')])
    const task = await lab.upgradeTo('v2')
    for (const device of [one, two]) await lab.push(device)
    for (const device of [one, two]) await lab.bridge.post([progresses(device, 100), reports(device, 'v1')])
    expect((await task.post(`/devices/${one.id}/retry`)).body).toMatchObject({ retried: 1 })
    await lab.push(one)
    expect((await task.post('/retry')).body).toMatchObject({ retried: 1 })
    await lab.push(two)
    await lab.bridge.post([reports(one, 'v2'), reports(two, 'v2')])
    await task.becomes('finished')
    expect(await task.get()).toMatchObject({ counts: { success: 2 }, rolledBack: 0 })
  })
})
