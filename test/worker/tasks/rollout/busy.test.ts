import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import type { NoticeFrame } from '../../../../src/protocol/bridge.ts'
import { type LabDevice, type LabTask, progresses, reports } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { countsOf, expectNone, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const statusesIn = (task: LabTask) =>
  runInDurableObject(env.UPGRADE_TASK.getByName(task.id), (_, { storage }) =>
    storage.sql
      .exec<{ device_id: string; status: string }>('SELECT device_id, status FROM devices')
      .toArray(),
  )

/** In D1 each device has at most one active slot a module, held by the task in which it is under way. */
async function expectOneUpgradeEach(fleet: RolloutFleet, tasks: LabTask[]): Promise<void> {
  const { results } = await env.DB.prepare(
    'SELECT device_id, module, task_id FROM upgrades WHERE tenant_id = ? AND active = 1',
  )
    .bind(fleet.admin.tenantId)
    .all<{ device_id: string; module: string; task_id: string }>()
  const holders = new Map(results.map((slot) => [`${slot.device_id} ${slot.module}`, slot.task_id]))
  expect(holders.size).toBe(results.length)
  for (const task of tasks) {
    const underWay = (await statusesIn(task)).filter(
      ({ status }) => status === 'pushed' || status === 'upgrading',
    )
    const elsewhere = underWay.filter(({ device_id }) => holders.get(`${device_id} default`) !== task.id)
    expect(elsewhere).toEqual([])
  }
}

/** Takes the notices since the last call and counts them by version; the broker finds no `offline` device. */
async function takeVersions(fleet: RolloutFleet, offline: LabDevice[] = []): Promise<Record<string, number>> {
  const offlineIds = new Set(offline.map(({ id }) => id))
  const frames: NoticeFrame[] = [...(await fleet.unexpected())]
  fleet.bridge.frames.length = 0
  await fleet.postAll(
    frames.flatMap((frame) => [
      sent(frame),
      taken(frame, offlineIds.has(frame.notice.device) ? 'offline' : 'taken'),
    ]),
  )
  if (frames.length > 0) fleet.bridge.grant(frames.length)
  const versions = frames.map(({ payload }) => JSON.parse(payload).params.version as string)
  return Object.fromEntries(
    [...Map.groupBy(versions, (version) => version)].map(([key, of]) => [key, of.length]),
  )
}

/**
 * 1,000 devices in an older task to v2: 400 Pushed, 300 Upgrading, 100 Pending (offline), 100 Success and 100
 * Failure.
 */
async function fleetAtWork() {
  const fleet = await makeRolloutFleet()
  const { devices } = fleet
  await fleet.all(devices, (device) => reports(device, 'v1'))
  const offline = devices.slice(700, 800)
  const upgrading = devices.slice(400, 700)
  const succeeded = devices.slice(800, 900)
  const older = await fleet.upgradeTo('v2')
  expect(await takeVersions(fleet, offline)).toEqual({ v2: 1000 })
  await fleet.all(upgrading, (device) => progresses(device, 40))
  await fleet.all(succeeded, (device) => progresses(device, 100))
  await fleet.all(devices.slice(900), (device) => progresses(device, -3))
  await fleet.unexpected()
  expect(await countsOf(older)).toEqual({
    total: 1000,
    pushed: 400,
    upgrading: 300,
    pending: 100,
    success: 100,
    failure: 100,
  })
  await expectOneUpgradeEach(fleet, [older])
  return { fleet, older, upgrading }
}

const outcomesOf = async (task: LabTask) => {
  const { results } = await env.DB.prepare(
    'SELECT status, description, count(*) AS count FROM outcomes WHERE task_id = ? GROUP BY 1, 2 ORDER BY 1, 2',
  )
    .bind(task.id)
    .all()
  return results
}

describe('a newer task on the same 1,000 devices', () => {
  it('a newer task that replaces takes the 500 devices that have not begun, and 300 more when the older task is done with them', async () => {
    const { fleet, older, upgrading } = await fleetAtWork()
    const newer = await fleet.upgradeTo('v3', { policy: { onBusy: 'replace' } })
    const check = () => expectOneUpgradeEach(fleet, [older, newer])
    expect(await takeVersions(fleet)).toEqual({ v3: 700 })
    await check()
    expect(await countsOf(older)).toEqual({
      total: 1000,
      upgrading: 300,
      success: 100,
      failure: 100,
      cancelled: 500,
    })
    expect(await countsOf(newer)).toEqual({ total: 1000, pending: 300, pushed: 700 })
    expect((await newer.device(upgrading[0]!)).waitingFor).toBe(`busy with task ${older.id}`)

    await fleet.all(upgrading.slice(0, 200), (device) => progresses(device, 100))
    expect(await takeVersions(fleet)).toEqual({ v3: 200 })
    await check()
    await fleet.all(upgrading.slice(200), (device) => progresses(device, -1))
    expect(await takeVersions(fleet)).toEqual({ v3: 100 })
    await check()
    expect(await countsOf(older)).toEqual({ total: 1000, success: 300, failure: 200, cancelled: 500 })
    expect(await outcomesOf(older)).toEqual([
      { status: 'cancelled', description: `replaced by ${newer.id}`, count: 500 },
      { status: 'failure', description: 'upgrade failed: at -1', count: 100 },
      { status: 'failure', description: 'verification failed: at -3', count: 100 },
      { status: 'success', description: 'at 100', count: 300 },
    ])

    // For the 400 that had a notice for v2, 100 % may still belong to v2, until they report their version.
    await fleet.all(fleet.devices, (device) => progresses(device, 100))
    await check()
    expect(await countsOf(newer)).toEqual({ total: 1000, upgrading: 400, success: 600 })
    await fleet.all(fleet.devices, (device) => reports(device, 'v3'))
    expect(await takeVersions(fleet)).toEqual({})
    await check()
    expect(await countsOf(newer)).toEqual({ total: 1000, success: 1000 })
    expect((await newer.get()).status).toBe('finished')
    expect((await older.get()).status).toBe('finished')
  })

  it('a newer task that waits leaves 800 devices to the older one until it is done with them or cancelled', async () => {
    const { fleet, older, upgrading } = await fleetAtWork()
    const newer = await fleet.upgradeTo('v3', { policy: { onBusy: 'wait' } })
    const check = () => expectOneUpgradeEach(fleet, [older, newer])
    expect(await takeVersions(fleet)).toEqual({ v3: 200 })
    await check()
    expect(await countsOf(newer)).toEqual({ total: 1000, pending: 800, pushed: 200 })
    await fleet.all(upgrading, (device) => progresses(device, 100))
    expect(await takeVersions(fleet)).toEqual({ v3: 300 })
    await check()
    expect(await countsOf(older)).toEqual({
      total: 1000,
      pending: 100,
      pushed: 400,
      success: 400,
      failure: 100,
    })
    await older.post('/cancel')
    expect(await takeVersions(fleet)).toEqual({ v3: 500 })
    await check()
    expect(await countsOf(older)).toEqual({ total: 1000, success: 400, failure: 100, cancelled: 500 })
    expect(await countsOf(newer)).toEqual({ total: 1000, pushed: 1000 })
    expect(await outcomesOf(older)).toContainEqual({
      status: 'cancelled',
      description: 'the task was cancelled',
      count: 500,
    })
  })

  it('a newer task that fails on busy devices fails 800 and sends notices to the 200 that are free', async () => {
    const { fleet, older, upgrading } = await fleetAtWork()
    const newer = await fleet.upgradeTo('v3', { policy: { onBusy: 'fail' } })
    expect(await takeVersions(fleet)).toEqual({ v3: 200 })
    await expectOneUpgradeEach(fleet, [older, newer])
    expect(await newer.get()).toMatchObject({
      counts: { pushed: 200, failure: 800 },
      failures: [{ code: null, cause: 'busy', description: 'another upgrade is active', count: 800 }],
      // A device that was sent nothing says nothing about the package.
      reached: 200,
      failed: 0,
    })
    await fleet.all(upgrading, (device) => progresses(device, 100))
    expectNone(await fleet.takeNotices())
    await expectOneUpgradeEach(fleet, [older, newer])
    expect(await countsOf(older)).toEqual({
      total: 1000,
      pending: 100,
      pushed: 400,
      success: 400,
      failure: 100,
    })

    // A retry finds 300 more devices free, and fails again at the other 500.
    expect((await newer.post('/retry')).body).toEqual({ retried: 800, skipped: [] })
    expect(await takeVersions(fleet)).toEqual({ v3: 300 })
    await expectOneUpgradeEach(fleet, [older, newer])
    expect(await countsOf(newer)).toEqual({ total: 1000, pushed: 500, failure: 500 })
  })
})
