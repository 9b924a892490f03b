import { describe, expect, it } from 'vitest'
import { makeClient } from '../../api.ts'
import { type LabDevice, makeLab, progresses, reports } from '../../lab.ts'
import { taken } from '../../lab-bridge.ts'

/** A device that has a notice for v2. `expectUndisturbed` expects that it is still Pushed and can be upgraded. */
async function pushed() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2')
  const { frame } = await lab.push(device)
  const expectUndisturbed = async () => {
    expect(await task.device(device)).toMatchObject({
      status: 'pushed',
      step: null,
      pushes: 1,
      fromVersion: 'v1',
    })
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
  }
  return { lab, device, task, frame, expectUndisturbed }
}

describe('another tenant', () => {
  it('another tenant finds neither a task nor its devices nor its package', async () => {
    const { lab, device, task, expectUndisturbed } = await pushed()
    const other = await makeLab(1)
    const [foreign] = other.devices as [LabDevice]
    const path = `/api/v1/tasks/${task.id}`
    const ofDevice = `${path}/devices/${device.id}`
    const calls: [string, string, unknown?][] = [
      ['GET', path],
      ['PATCH', path, { name: 'mine' }],
      ['GET', `${path}/devices`],
      ['GET', ofDevice],
      ...['pause', 'resume', 'cancel', 'retry'].map((verb): [string, string] => ['POST', `${path}/${verb}`]),
      ...['cancel', 'retry'].map((verb): [string, string] => ['POST', `${ofDevice}/${verb}`]),
      ['POST', '/api/v1/tasks', { packageId: (await task.get()).packageIds[0], name: 'x', devices: 'all' }],
      [
        'POST',
        '/api/v1/tasks',
        { packageId: await other.addPackage('v9'), name: 'x', devices: { ids: [device.id] } },
      ],
    ]
    for (const [method, at, body] of calls) {
      const answer = await other.admin.call(method, at, body)
      expect(answer.status, `${method} ${at}`).toBe(404)
      expect(answer.body.code).toMatch(/^(task|device|package)\.not_found$/)
    }
    expect((await other.admin.call('GET', '/api/v1/tasks')).body.items).toEqual([])
    expect((await lab.admin.call('GET', `${path}/devices/${foreign.id}`)).body.code).toBe('device.not_found')
    await expectUndisturbed()
  })

  it("another tenant's bridge cannot speak for a device or a notice", async () => {
    const { device, frame, expectUndisturbed } = await pushed()
    const other = await makeLab(1)
    const results = await other.bridge.post([
      reports(device, 'v2'),
      progresses(device, 100),
      { kind: 'presence', event: 'reset' },
      { kind: 'presence', event: 'disconnected', username: device.token },
      taken(frame, 'offline'),
    ])
    expect(results.map(({ reason }) => reason)).toEqual([
      'unknown device',
      'unknown device',
      undefined,
      'unknown device',
      'unknown device',
    ])
    const shared = await makeClient('bridge', null, 'tenants')
    const body = { bridge: 'tenants', items: [{ ...progresses(device, 100), id: 'x' }] }
    const answer = await shared.call('POST', '/bridge/v1/messages', body)
    expect(answer.body.results).toMatchObject([{ status: 'rejected', reason: 'unknown device' }])
    await expectUndisturbed()
  })
})
