import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import { makeLab, progresses, reports } from '../lab.ts'

interface Event {
  code: string
  params: Record<string, unknown>
  kind: string
  detail: string | null
}

describe('reasons as data', () => {
  it('a paused task says why, as text and as data, in the task itself and in lists', async () => {
    const lab = await makeLab(1)
    const task = await lab.upgradeTo('v2')
    const { body } = await task.post('/pause')
    const paused = {
      pausedReason: 'paused by an operator',
      pausedBecause: { code: 'paused_by_operator', params: {} },
    }
    expect(body).toMatchObject({
      ...paused,
      waitingFor: 'the task is paused',
      waiting: { code: 'task_paused', params: {} },
    })
    await lab.unexpected()
    const list = await lab.admin.call('GET', '/api/v1/tasks')
    expect(list.body.items).toMatchObject([paused])
    expect((await task.post('/resume')).body).toMatchObject({ pausedReason: null, pausedBecause: null })
  })

  it('the history of a device that was enabled says "enabled", and does not speak of a free slot', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [(typeof lab.devices)[0]]
    const change = (enabled: boolean) => lab.admin.call('PATCH', `/api/v1/devices/${device.id}`, { enabled })
    await change(false)
    const task = await lab.upgradeTo('v2')
    await lab.unexpected()
    expect(await task.device(device)).toMatchObject({
      waitingFor: 'the device is disabled',
      waiting: { code: 'device_disabled', params: {} },
    })
    await change(true)
    await lab.push(device)
    const { events } = await task.device(device)
    expect(events.map(({ code }: Event) => code)).toEqual([
      'waits',
      'enabled',
      'notice_offered',
      'notice_sent',
      'notice_taken',
    ])
    expect(events[0]).toMatchObject({
      params: { reason: { code: 'device_disabled', params: {} } },
      kind: 'waits',
      detail: 'the device is disabled',
    })
  })

  it("a failure has the device's words as a parameter of its reason, in the task and in the device's upgrades", async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [(typeof lab.devices)[0]]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.bridge.post([progresses(device, -4, { desc: 'sector 7 {said} [x]' })])
    await lab.unexpected()
    const failed = {
      description: 'write failed: sector 7 {said} [x]',
      because: { code: 'write_failed', params: { said: 'sector 7 {said} [x]' } },
    }
    expect(await task.device(device)).toMatchObject({ ...failed, code: -4, cause: 'write_failed' })
    expect((await task.get()).failures).toMatchObject([{ ...failed, count: 1 }])
    const upgrades = await lab.admin.call('GET', `/api/v1/devices/${device.id}/upgrades`)
    expect(upgrades.body.items).toMatchObject([failed])
  })

  it('an object that an earlier release wrote is read as before, and its device goes on', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [(typeof lab.devices)[0]]
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await lab.unexpected()
    const stub = taskStub(env, task.id)
    await runInDurableObject(stub, (_, { storage: { sql } }) => {
      const events = [
        [1_800_000_000_000, 'hold', 'the device is disabled'],
        [1_000, 'notice offered', '1800000001'],
        [1_000, 'notice sent', 1800000002],
        [1_000, 'notice taken', 1800000002, 'pushed'],
      ]
      sql.exec('UPDATE devices SET events = ?', JSON.stringify(events))
      sql.exec(`UPDATE task SET run = json_remove(json_set(run, '$.status', 'paused',
        '$.pausedReason', 'package pkg_1 (v2) was recalled'), '$.pausedBecause')`)
    })
    await evictDurableObject(stub)
    expect(await task.get()).toMatchObject({
      status: 'paused',
      pausedReason: 'package pkg_1 (v2) was recalled',
      pausedBecause: { code: 'text', params: { text: 'package pkg_1 (v2) was recalled' } },
    })
    await task.post('/resume')
    await lab.bridge.post([progresses(device, 50), reports(device, 'v2')])
    const { status, events } = await task.device(device)
    expect(status).toBe('success')
    expect(events.map(({ code, kind, detail }: Event) => [code, kind, detail])).toEqual([
      ['waits', 'waits', 'the device is disabled'],
      ['notice_offered', 'notice offered', '1800000001'],
      ['notice_sent', 'notice sent', '1800000002'],
      ['notice_taken', 'notice taken', '1800000002'],
      ['progress', 'progress', '50 at 50'],
      ['version', 'version', 'v2'],
    ])
  })
})
