import { runDurableObjectAlarm } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { hubName, hubStub } from '../../src/hub/hub.ts'
import { caller } from './api.ts'
import { type Opened, openPreviousRelease, openTask, type TaskName } from './fixtures/open-fixture.ts'
import {
  addDevice,
  type LabDevice,
  type LabTask,
  outcomeOf,
  progresses,
  reports,
  slotOf,
  subscribes,
} from './lab.ts'

// Tasks of the previous release go on by the rules of today (fixtures/open-fixture.ts).

const MINUTE = 60_000
const LEASE = 61_000

/** The device upgrades, and reports what it runs. */
const succeeds = (device: LabDevice, version: string, module?: string) => [
  progresses(device, 100, module === undefined ? {} : { module }),
  reports(device, version, module),
]

/** The devices that were Pending in a closed wave. */
const inClosedWave = ({ before, byNumber }: Opened, name: TaskName) =>
  Object.entries(before[name].devices)
    .filter(([, { waitingFor }]) => waitingFor?.startsWith('wave 2'))
    .map(([number]) => byNumber(number))

/** Makes a task with a new package that is a diff. */
async function upgradeByDiff(
  { admin, productId }: Opened,
  [source, version]: [string, string],
  devices: LabDevice[],
  module = 'default',
): Promise<LabTask> {
  const body = { productId, name: 'diff', version, module, kind: 'diff', sourceVersion: source }
  const made = await admin.call('POST', '/api/v1/packages', body)
  const file = `diff to ${version}`
  await exports.default.fetch(`http://edge-ota.test/api/v1/packages/${made.body.id}/file`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${admin.key}`, 'content-length': String(file.length) },
    body: file,
  })
  const task = { packageId: made.body.id, name: 'by diff', devices: { ids: devices.map(({ id }) => id) } }
  const { status, body: created } = await admin.call('POST', '/api/v1/tasks', task)
  expect(status, JSON.stringify(created)).toBe(201)
  return openTask(admin, created.id)
}

it('every task reads as it was', async () => {
  const { tasks, before, admin, expectSound } = await openPreviousRelease()
  for (const was of Object.values(before)) {
    const { status, pausedReason, counts } = was
    const waves = was.waves.map(({ percent, devices, openedAt }) => ({ percent, devices, openedAt }))
    expect(await tasks[was.task].get()).toMatchObject({ status, pausedReason, counts, waves })
    const path = `/api/v1/tasks/${was.id}`
    const { items } = (await admin.call('GET', `${path}/devices?limit=200`)).body
    const numbers = items.map(({ number }: LabDevice) => number)
    expect(numbers.toSorted()).toEqual(Object.keys(was.devices).toSorted())
    for (const { deviceId, number } of items) {
      const { events, waitingFor, ...fields } = was.devices[number]!
      const { body } = await admin.call('GET', `${path}/devices/${deviceId}`)
      expect(body).toMatchObject(fields)
      // The rules of waves may say it otherwise.
      if (waitingFor?.startsWith('wave 2')) expect(body.waitingFor).toMatch(/^wave 2/)
      else expect(body.waitingFor).toBe(waitingFor)
      const spelled = ([at, kind, detail, status]: (typeof events)[number]) => {
        return { at, kind: kind === 'hold' ? 'waits' : kind, detail, status }
      }
      expect(body.events).toMatchObject(events.map(spelled))
    }
    expect((await admin.call('GET', `${path}/progress`)).status).toBe(200)
    expect((await admin.call('GET', `${path}/report.csv`)).status).toBe(200)
  }
  await expectSound()
})

it('lists show the tasks, and the later created is the newer', async () => {
  const { before, admin, tasks } = await openPreviousRelease()
  const { body } = await admin.call('GET', '/api/v1/tasks?limit=200')
  const statuses = (all: { id: string; status: string }[]) =>
    Object.fromEntries(all.map(({ id, status }) => [id, status]))
  expect(statuses(body.items)).toEqual(statuses(Object.values(before)))
  const ranks = await env.DB.prepare('SELECT id FROM tasks ORDER BY rank').all<{ id: string }>()
  const ids = ranks.results.map(({ id }) => id)
  expect(ids.indexOf(tasks.startedFirst.id)).toBeGreaterThan(ids.indexOf(tasks.createdFirst.id))
  const others = await env.DB.prepare(
    `SELECT 1 FROM upgrades JOIN tasks t ON t.id IN (task_id, succeeded_task_id, waiting_task_id)
     WHERE t.rank NOT IN (upgrades.rank, coalesce(succeeded_rank, ''), coalesce(waiting_rank, ''))`,
  ).all()
  expect(others.results).toEqual([])
})

it('the key of the bridge is good, and what it posts twice changes nothing', async () => {
  const { devices, tasks, bridge, bridgeKey, expectSound } = await openPreviousRelease()
  const before = await tasks.waves.device(devices.upgrading)
  const items = [{ ...progresses(devices.upgrading, 30), id: 'again', lease: 1, seq: 1 }]
  const batch = { bridge: 'default', upTo: Date.now(), items }
  const { status, body } = await caller(bridgeKey)('POST', '/bridge/v1/messages', batch)
  expect([status, body.results[0].status]).toEqual([200, 'taken'])
  expect(await tasks.waves.device(devices.upgrading)).toEqual(before)
  await bridge.post([progresses(devices.upgrading, 55)])
  expect(await tasks.waves.device(devices.upgrading)).toMatchObject({ status: 'upgrading', step: 55 })
  await expectSound()
})

it('a notice that was not confirmed goes out again under the same id', async () => {
  const { devices, tasks, bridge, offer, push, wait, expectSound } = await openPreviousRelease()
  await wait(LEASE)
  const { frame } = await push(devices.offered)
  expect(frame.notice).toMatchObject({ id: offer, task: tasks.waves.id })
  await tasks.waves.reaches(devices.offered, 'pushed')
  await bridge.post(succeeds(devices.offered, 'v2'))
  await tasks.waves.reaches(devices.offered, 'success')
  await expectSound()
})

it('its answer is taken, too, if it comes late', async () => {
  const { devices, tasks, bridge, offer, expectSound } = await openPreviousRelease()
  const notice = { task: tasks.waves.id, device: devices.offered.id, id: offer }
  await bridge.post([
    { kind: 'sent', notice },
    { kind: 'taken', notice, result: 'taken' },
  ])
  await tasks.waves.reaches(devices.offered, 'pushed')
  await expectSound()
  expect(bridge.frames.filter(({ notice: { device } }) => device === devices.offered.id)).toEqual([])
})

it('a device that has its notice succeeds', async () => {
  const { devices, tasks, bridge, settle, expectSound } = await openPreviousRelease()
  await bridge.post([progresses(devices.pushed, 0), ...succeeds(devices.pushed, 'v2')])
  await tasks.waves.reaches(devices.pushed, 'success')
  await settle()
  expect(await outcomeOf(tasks.waves, devices.pushed)).toMatchObject({ status: 'success', attempt: 1 })
  expect(await slotOf(devices.pushed)).toMatchObject({ active: 0, succeeded_task_id: tasks.waves.id })
  await expectSound()
})

it('an outcome that was not in D1 yet is written', async () => {
  const { devices, tasks, settle, expectSound } = await openPreviousRelease()
  expect(await outcomeOf(tasks.waves, devices.confirmed)).toBeNull()
  await settle()
  expect(await outcomeOf(tasks.waves, devices.confirmed)).toMatchObject({ status: 'success', attempt: 1 })
  expect(await slotOf(devices.confirmed)).toMatchObject({ active: 0, succeeded_task_id: tasks.waves.id })
  await expectSound()
})

it('a failure is retried automatically', async () => {
  const { devices, tasks, push, bridge, wait, expectSound } = await openPreviousRelease()
  await wait(11 * MINUTE)
  await push(devices.retrying)
  expect(await tasks.waves.device(devices.retrying)).toMatchObject({ status: 'pushed', attempt: 2 })
  await bridge.post(succeeds(devices.retrying, 'v2'))
  await tasks.waves.reaches(devices.retrying, 'success')
  expect((await tasks.waves.get()).failures).toEqual([])
  await expectSound()
})

it('the next wave opens once the devices of the first did well, and the task is finished', async () => {
  const opened = await openPreviousRelease()
  const { devices, tasks, push, bridge, settle, wait, expectSound } = opened
  const { offered, pushed, offline, upgrading, assumed, retrying } = devices
  await bridge.post([subscribes(offline), reports(assumed, 'v2')])
  await bridge.post([...succeeds(pushed, 'v2'), ...succeeds(upgrading, 'v2')])
  await push(offline)
  await wait(LEASE)
  await push(offered)
  await wait(10 * MINUTE)
  await push(retrying)
  await bridge.post([offline, offered, retrying].flatMap((device) => succeeds(device, 'v2')))
  const next = inClosedWave(opened, 'waves')
  expect(next).toHaveLength(3)
  // Some may be told already in place of the one that was cancelled, and the others when their wave opens.
  for (let left = next; left.length > 0; ) {
    await settle()
    const told = left.filter(({ id }) => bridge.frames.some(({ notice }) => notice.device === id))
    expect(told).not.toEqual([])
    for (const device of told) await push(device)
    await bridge.post(told.flatMap((device) => succeeds(device, 'v2')))
    left = left.filter((device) => !told.includes(device))
  }
  expect((await tasks.waves.get()).waves[1]).toMatchObject({ openedAt: expect.any(String) })
  await tasks.waves.becomes('finished')
  expect((await tasks.waves.get()).counts).toMatchObject({ total: 11, success: 10, cancelled: 1 })
  await expectSound()
})

it('a wave that soaks opens the next one', async () => {
  const opened = await openPreviousRelease()
  const { devices, tasks, push, bridge, wait, expectSound } = opened
  await bridge.post([reports(devices.soakedAssumed, 'm3', 'mcu')])
  await wait(62 * MINUTE)
  const next = inClosedWave(opened, 'soak')
  expect(next).toHaveLength(2)
  for (const device of next) expect((await push(device)).notice.params.module).toBe('mcu')
  await bridge.post(next.flatMap((device) => succeeds(device, 'm3', 'mcu')))
  await tasks.soak.becomes('finished')
  await expectSound()
})

it('a Success by 100 % that reports another version is rolled back', async () => {
  const { devices, tasks, bridge, expectSound } = await openPreviousRelease()
  await bridge.post([reports(devices.assumed, 'v1'), reports(devices.soakedAssumed, 'm1', 'mcu')])
  expect(await tasks.waves.device(devices.assumed)).toMatchObject({ status: 'success', rolledBack: true })
  expect(await tasks.soak.device(devices.soakedAssumed)).toMatchObject({ rolledBack: true })
  await expectSound()
  expect((await tasks.soak.get()).rolledBack).toBe(1)
})

it('an Upgrading device that falls silent times out, and is retried', async () => {
  const { devices, tasks, wait, expectSound } = await openPreviousRelease()
  await wait(601 * MINUTE)
  expect(await tasks.waves.device(devices.upgrading)).toMatchObject({ status: 'failure', cause: 'timed_out' })
  expect(await tasks.holder.device(devices.holding)).toMatchObject({ status: 'failure', cause: 'timed_out' })
  await wait(11 * MINUTE)
  expect(await tasks.waves.device(devices.upgrading)).toMatchObject({ status: 'pending', attempt: 2 })
  await expectSound()
})

it('scheduled tasks start', async () => {
  const { devices, tasks, push, bridge, wait, expectSound } = await openPreviousRelease()
  await wait(121 * MINUTE)
  expect(await tasks.scheduled.get()).toMatchObject({ status: 'running' })
  expect(await tasks.scheduled.device(devices.onTarget)).toMatchObject({
    status: 'success',
    description: 'already on the target version',
    pushes: 0,
  })
  // It runs the target of the one and is in the newer one too.
  expect((await push(devices.scheduledToo)).frame.notice.task).toBe(tasks.scheduledAtOnce.id)
  // The newer task replaces the halted one.
  expect((await push(devices.haltedPushed)).frame.notice.task).toBe(tasks.scheduledAtOnce.id)
  await tasks.halted.reaches(devices.haltedPushed, 'cancelled')
  expect((await push(devices.scheduled)).frame.notice.task).toBe(tasks.scheduled.id)
  await bridge.post([
    ...succeeds(devices.scheduled, 'v4'),
    ...succeeds(devices.scheduledToo, 'v10'),
    ...succeeds(devices.haltedPushed, 'v10'),
  ])
  await tasks.scheduled.becomes('finished')
  await tasks.scheduledAtOnce.becomes('finished')
  await expectSound()
})

it('a halted task stays paused until it is resumed', async () => {
  const { devices, tasks, push, bridge, settle, expectSound } = await openPreviousRelease()
  const { halted, haltedPushed, haltedUpgrading } = devices
  await bridge.post([progresses(haltedUpgrading, 80)])
  await settle()
  expect(await tasks.halted.get()).toMatchObject({ status: 'paused' })
  expect((await tasks.halted.post('/resume')).status).toBe(200)
  expect(await tasks.halted.get()).toMatchObject({ status: 'running', pausedReason: null })
  expect((await tasks.halted.post('/retry')).body).toMatchObject({ retried: 1, skipped: [] })
  await push(halted)
  await bridge.post([halted, haltedPushed, haltedUpgrading].flatMap((device) => succeeds(device, 'v3')))
  await tasks.halted.becomes('finished')
  expect((await tasks.halted.get()).counts).toMatchObject({ total: 3, success: 3 })
  await expectSound()
})

it('a dynamic task takes in a new device, and sends its differential package to those that it fits', async () => {
  const { admin, productId, devices, tasks, push, bridge, wait, expectSound } = await openPreviousRelease()
  const joined = await addDevice(admin, productId, 'dyn3')
  await bridge.post([reports(joined, 'v1'), reports(devices.dynamicPushed, 'v1')])
  await wait(LEASE)
  for (const device of [joined, devices.dynamicPushed]) {
    expect((await push(device)).notice.params).toMatchObject({ version: 'v5', isDiff: 1 })
  }
  await bridge.post([joined, devices.dynamicPushed].flatMap((device) => succeeds(device, 'v5')))
  await wait(MINUTE)
  expect(await tasks.dynamic.get()).toMatchObject({ status: 'running', counts: { total: 3, success: 3 } })
  await expectSound()
})

it('a device that was disabled gets its notice when it is enabled', async () => {
  const { admin, devices, tasks, push, bridge, expectSound } = await openPreviousRelease()
  await admin.call('PATCH', `/api/v1/devices/${devices.disabled.id}`, { enabled: true })
  expect((await push(devices.disabled)).frame.notice.task).toBe(tasks.waiter.id)
  await bridge.post(succeeds(devices.disabled, 'v9'))
  await tasks.waiter.reaches(devices.disabled, 'success')
  await expectSound()
})

it('a task that waits for a slot gets it', async () => {
  const { devices, tasks, push, bridge, expectSound } = await openPreviousRelease()
  await bridge.post(succeeds(devices.holding, 'v6'))
  await tasks.holder.becomes('finished')
  expect((await push(devices.holding)).frame.notice.task).toBe(tasks.waiter.id)
  await bridge.post(succeeds(devices.holding, 'v9'))
  await tasks.waiter.reaches(devices.holding, 'success')
  await expectSound()
})

it('a task that was created first and started later gives way to the success of the other', async () => {
  const { devices, tasks, bridge, expectSound } = await openPreviousRelease()
  await bridge.post(succeeds(devices.contested, 'v8'))
  await tasks.startedFirst.becomes('finished')
  await tasks.createdFirst.becomes('finished')
  expect(await tasks.createdFirst.device(devices.contested)).toMatchObject({ status: 'cancelled' })
  await expectSound()
})

it('a task that was created first and started later gets its turn if the other fails', async () => {
  const { devices, tasks, push, bridge, expectSound } = await openPreviousRelease()
  await bridge.post([progresses(devices.contested, -1)])
  await tasks.startedFirst.becomes('finished')
  expect((await push(devices.contested)).frame.notice.task).toBe(tasks.createdFirst.id)
  await bridge.post(succeeds(devices.contested, 'v7'))
  await tasks.createdFirst.becomes('finished')
  await expectSound()
})

it('a finished task is opened again by a retry', async () => {
  const { devices, tasks, push, bridge, expectSound } = await openPreviousRelease()
  const { finishedFailed, finishedTimedOut } = devices
  expect((await tasks.finished.post('/retry')).body).toMatchObject({ retried: 2, skipped: [] })
  await tasks.finished.becomes('running')
  for (const device of [finishedFailed, finishedTimedOut]) await push(device)
  await bridge.post([finishedFailed, finishedTimedOut].flatMap((device) => succeeds(device, 'm2', 'mcu')))
  await tasks.finished.becomes('finished')
  expect(await tasks.finished.get()).toMatchObject({ counts: { success: 3, failure: 0 }, failures: [] })
  await expectSound()
})

it('a device that was cancelled is told, and can be retried', async () => {
  const { devices, tasks, push, bridge, wait, expectSound } = await openPreviousRelease()
  await wait(LEASE)
  const told = await push(devices.cancelled)
  expect(told.notice).toMatchObject({ code: 410, params: { version: 'v2' } })
  expect((await tasks.waves.post(`/devices/${devices.cancelled.id}/retry`)).status).toBe(200)
  const { notice } = await push(devices.cancelled)
  expect(Number(notice.id)).toBeGreaterThan(Number(told.notice.id))
  await bridge.post(succeeds(devices.cancelled, 'v2'))
  await tasks.waves.reaches(devices.cancelled, 'success')
  await expectSound()
})

it('a task can be cancelled', async () => {
  const { devices, tasks, settle, expectSound } = await openPreviousRelease()
  expect((await tasks.waves.post('/cancel')).status).toBe(200)
  await settle()
  const { counts, status } = await tasks.waves.get()
  expect(status).toBe('cancelled')
  expect(counts).toMatchObject({ total: 11, pending: 0, pushed: 0, upgrading: 0, success: 2, failure: 1 })
  for (const device of [devices.pushed, devices.offered, devices.upgrading]) {
    expect(await outcomeOf(tasks.waves, device)).toMatchObject({ status: 'cancelled' })
  }
  expect(await slotOf(devices.pushed)).toMatchObject({ active: 0 })
  await expectSound()
})

it('what a device runs is certain only where the previous release knew it', async () => {
  const opened = await openPreviousRelease()
  const { devices, push, bridge, wait, expectSound } = opened
  const { assumed, confirmed, finishedFailed, finishedTimedOut } = devices
  await wait(MINUTE)
  const whole = await upgradeByDiff(opened, ['v2', 'v12'], [assumed, confirmed])
  const part = await upgradeByDiff(opened, ['m1', 'm12'], [finishedFailed, finishedTimedOut], 'mcu')
  expect((await push(confirmed)).notice.params).toMatchObject({ version: 'v12', isDiff: 1 })
  expect((await push(finishedFailed)).notice.params).toMatchObject({ version: 'm12', isDiff: 1 })
  for (const [task, device] of [[whole, assumed] as const, [part, finishedTimedOut] as const]) {
    expect((await task.device(device)).waiting).toMatchObject({ code: 'version_uncertain' })
  }
  await bridge.post([reports(assumed, 'v2'), reports(finishedTimedOut, 'm1', 'mcu')])
  expect((await push(assumed)).notice.params).toMatchObject({ version: 'v12', isDiff: 1 })
  expect((await push(finishedTimedOut)).notice.params).toMatchObject({ version: 'm12', isDiff: 1 })
  await expectSound()
})

it('messages that the hub had rejected are kept', async () => {
  const { admin, devices, expectSound } = await openPreviousRelease()
  const path = `/api/v1/devices/${devices.haltedPushed.id}/rejections`
  const { body } = await admin.call('GET', path)
  expect(body).toMatchObject({ total: 1, items: [{ topic: 'ota/device/progress' }] })
  await runDurableObjectAlarm(hubStub(env, hubName(admin.tenantId, 'default')))
  expect((await admin.call('GET', path)).body).toEqual(body)
  await expectSound()
})

it('packages of before have the SHA-256 that they are known to have, and are not signed', async () => {
  const { admin } = await openPreviousRelease()
  const { items } = (await admin.call('GET', '/api/v1/packages?limit=200')).body
  expect(items.length).toBeGreaterThan(0)
  for (const { sign, signMethod, sha256, signature, securityCounter } of items) {
    expect(sha256).toBe(signMethod === 'SHA256' ? sign : null)
    expect({ signature, securityCounter }).toEqual({ signature: null, securityCounter: 0 })
  }
})

it('a task of before stops where a signature is required now, says why, and goes on where it is not', async () => {
  const { admin, productId, devices, tasks, bridge, push, wait, expectSound } = await openPreviousRelease()
  const requires = (requireSignature: boolean) =>
    admin.call('PATCH', `/api/v1/products/${productId}`, { requireSignature })
  expect((await requires(true)).body).toMatchObject({
    requireSignature: true,
    signingName: expect.any(String),
  })
  await bridge.post([reports(devices.pushed, 'v1')])
  await wait(LEASE)
  // A cancellation is no upgrade: it still goes out.
  expect(bridge.frames.filter(({ payload }) => JSON.parse(payload).code === 200)).toEqual([])
  expect((await tasks.waves.device(devices.pushed)).waitingFor).toMatch(/has no signature/)
  await requires(false)
  await push(devices.pushed)
  await expectSound()
})
