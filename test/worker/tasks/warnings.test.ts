import { describe, expect, it } from 'vitest'
import { type Lab, type LabDevice, makeLab, reports } from '../lab.ts'
import { until } from '../lab-clock.ts'

const MINUTE = 60_000
const inTenMinutes = () => new Date(Date.now() + 10 * MINUTE).toISOString()

const create = (lab: Lab, packageId: string, more: Record<string, unknown> = {}) =>
  lab.admin.call('POST', '/api/v1/tasks', { packageId, name: 'a task', devices: 'all', ...more })
const preview = (lab: Lab, packageId: string, more: Record<string, unknown> = {}) =>
  lab.admin.call('POST', '/api/v1/tasks/preview', { packageId, name: 'a task', devices: 'all', ...more })

const NOBODY = { devices: { filter: { tags: ['nobody has this'] } } }

describe('a task that takes in nobody', () => {
  it('is refused if it starts now, and leaves nothing behind', async () => {
    const lab = await makeLab(1)
    const packageId = await lab.addPackage('v2')
    const { status, body } = await create(lab, packageId, NOBODY)
    expect([status, body.code]).toEqual([422, 'task.no_devices'])
    expect((await lab.admin.call('GET', '/api/v1/tasks')).body.items).toEqual([])
  })

  it('is warned of if it starts later, and says at its end that it found nobody', async () => {
    const lab = await makeLab(1)
    const packageId = await lab.addPackage('v2')
    const { status, body } = await create(lab, packageId, { ...NOBODY, startAt: inTenMinutes() })
    expect([status, body.warnings]).toEqual([
      201,
      [
        {
          code: 'no_devices_yet',
          message: 'no device matches yet; the task looks again when it starts',
          params: {},
        },
      ],
    ])
    await lab.bridge.idleFor(11 * MINUTE)
    const read = async () => (await lab.admin.call('GET', `/api/v1/tasks/${body.id}`)).body
    await until('the end of the task', async () => (await read()).status === 'finished')
    expect((await read()).waitingFor).toBe('no device matched when the task started')
  })

  it('is welcome if it is dynamic: it waits for devices', async () => {
    const lab = await makeLab(1)
    const packageId = await lab.addPackage('v2')
    const { status, body } = await create(lab, packageId, { ...NOBODY, policy: { dynamic: true } })
    expect([status, body.warnings]).toEqual([201, []])
  })
})

describe('warnings stand in the preview and in the answer', () => {
  async function both(lab: Lab, packageId: string, more: Record<string, unknown> = {}) {
    const before = (await preview(lab, packageId, more)).body.warnings
    const { body } = await create(lab, packageId, more)
    expect(before).toEqual(body.warnings)
    return body.warnings as { code: string; message: string; params: Record<string, unknown> }[]
  }

  it('an older task of the product and module that goes on is named', async () => {
    const lab = await makeLab(1)
    const startAt = inTenMinutes()
    const sunday = await create(lab, await lab.addPackage('v2'), { name: 'Sunday', startAt })
    expect(await both(lab, await lab.addPackage('v3'))).toEqual([
      {
        code: 'older_task_cut_short',
        message: `task "Sunday" (${sunday.body.id}), scheduled for ${startAt}, will not reach the devices that this one upgrades`,
        params: { taskId: sunday.body.id, name: 'Sunday', startAt },
      },
    ])
    await lab.admin.call('POST', `/api/v1/tasks/${sunday.body.id}/cancel`)
  })

  it('devices that run a newer package are counted', async () => {
    const lab = await makeLab(3)
    const [one, two, three] = lab.devices as [LabDevice, LabDevice, LabDevice]
    const older = await lab.addPackage('v2')
    await lab.addPackage('v3')
    await lab.bridge.post([reports(one, 'v3'), reports(two, 'v3'), reports(three, 'v1')])
    expect(await both(lab, older)).toMatchObject([
      { code: 'leaves_newer_version', params: { version: 'v3', devices: 2 } },
    ])
  })

  it('a module that no device ever reported is pointed out', async () => {
    const lab = await makeLab(1)
    const packageId = await lab.addPackage('v2', { module: 'MCU' })
    expect(await both(lab, packageId)).toMatchObject([
      { code: 'module_never_reported', params: { module: 'MCU' } },
    ])
  })

  it('many devices at once are pointed out, unless there are waves or a rate', async () => {
    const lab = await makeLab(100)
    const packageId = await lab.addPackage('v2')
    expect((await preview(lab, packageId)).body.warnings).toMatchObject([
      { code: 'all_at_once', params: { devices: 100 } },
    ])
    for (const policy of [{ ratePerMinute: 10 }, { waves: [{ percent: 1 }, { percent: 100 }] }]) {
      expect((await preview(lab, packageId, { policy })).body.warnings).toEqual([])
    }
  })
})
