import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { beforeEach, describe, expect, it } from 'vitest'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import { meterD1, meterStorage, readCounters, resetCounters } from '../../bench/meter.ts'
import { type LabDevice, type LabTask, progresses, reports } from '../lab.ts'
import { makeRolloutFleet, type RolloutFleet } from '../rollout-fleet.ts'

// Nothing is written while nothing happens: a device that waits is looked at when what it waits for changes. The clock
// alone rewrites no row, of the device, of the task or in D1.

const HOURS = 6
const HOUR = 3_600_000

beforeEach(async () => {
  meterD1(env.DB)
  await runInDurableObject(taskStub(env, 'tsk_to_meter'), (_, state) => meterStorage(state))
})

/** What is written of the tasks and devices in six hours in which nobody says anything. */
async function writtenIn(fleet: RolloutFleet): Promise<Record<string, number>> {
  await fleet.wait(60_000)
  resetCounters()
  for (let hour = 0; hour < HOURS * 4; hour++) await fleet.wait(HOUR / 4)
  const { written } = readCounters()
  // The bridge's empty batches and the alarms are no news of a device.
  return Object.fromEntries(
    Object.entries(written).filter(([statement]) =>
      /devices|UPDATE task|upgrades|outcomes|tasks/.test(statement),
    ),
  )
}

type Waits = (fleet: RolloutFleet) => Promise<LabTask>

const waits: [string, Waits][] = [
  [
    'is disabled',
    async (fleet) => {
      await fleet.admin.call('PATCH', `/api/v1/devices/${fleet.devices[0]!.id}`, { enabled: false })
      return fleet.upgradeTo('v2')
    },
  ],
  [
    'is busy with another task',
    async (fleet) => {
      await fleet.upgradeTo('v2', { policy: { deviceTimeoutMinutes: 6000 } })
      await fleet.takeNotices()
      await fleet.all(fleet.devices, (device) => progresses(device, 10))
      return fleet.upgradeTo('v3', { policy: { onBusy: 'wait' } })
    },
  ],
  [
    'has no package that fits it',
    (fleet) => fleet.upgradeTo('v2', {}, { kind: 'diff', sourceVersion: 'v0' }),
  ],
  [
    'is offline',
    async (fleet) => {
      const task = await fleet.upgradeTo('v2')
      await fleet.takeNotices('offline')
      return task
    },
  ],
  [
    'may join a dynamic task, and has not',
    async (fleet) => {
      const task = await fleet.upgradeTo('v2', { policy: { dynamic: true } })
      await fleet.succeed(await fleet.takeNotices())
      return task
    },
  ],
]

describe('nothing is written while nothing happens', () => {
  it.each(waits)('a device that %s', async (_, wait) => {
    const fleet = await makeRolloutFleet(1)
    await fleet.all(fleet.devices, (device) => reports(device, 'v1'))
    const task = await wait(fleet)
    await fleet.takeNotices('offline')
    const [device] = fleet.devices as [LabDevice]
    const before = await task.device(device)
    expect(await writtenIn(fleet)).toEqual({})
    expect(await task.device(device)).toEqual(before)
  })

  it.each<[string, (fleet: RolloutFleet) => unknown]>([
    [
      'product is frozen',
      ({ admin, productId }) => admin.call('POST', `/api/v1/products/${productId}/freeze`),
    ],
    ['bridge is away', ({ bridge }) => bridge.close()],
  ])('a device whose %s costs a handful of rows in six hours', async (_, stop) => {
    const fleet = await makeRolloutFleet(1)
    await stop(fleet)
    await fleet.upgradeTo('v2')
    const written = Object.values(await writtenIn(fleet)).reduce((sum, rows) => sum + rows, 0)
    expect(written).toBeLessThanOrEqual(HOURS * 4 + 6)
  })

  it('a call that was lost costs no more than 15 minutes', async () => {
    const fleet = await makeRolloutFleet(1)
    const [device] = fleet.devices as [LabDevice]
    await fleet.admin.call('PATCH', `/api/v1/devices/${device.id}`, { enabled: false })
    await fleet.upgradeTo('v2')
    await fleet.wait(60_000)
    await env.DB.prepare('UPDATE devices SET enabled = 1 WHERE id = ?').bind(device.id).run()
    await fleet.wait(15 * 60_000)
    expect(await fleet.takeNotices()).toEqual([device])
  })
})
