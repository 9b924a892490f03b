import { evictDurableObject, listDurableObjectIds, runInDurableObject } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import { downloadKey } from '../../../src/links/linker.ts'
import { makeToken } from '../../../src/links/token.ts'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import { slotPeer } from '../../../src/tasks/effects/other-tasks.ts'
import { makeClient } from '../api.ts'
import {
  type Lab,
  type LabTask,
  makeLab,
  outcomeOf,
  over,
  progresses,
  reports,
  requests,
  slotOf,
} from '../lab.ts'
import { until } from '../lab-clock.ts'

// A task that is over is deleted: what is left of it, and what comes late.

/** What the object of the task holds: bytes of storage, and its alarm. */
const held = (task: Pick<LabTask, 'id'>) =>
  runInDurableObject(taskStub(env, task.id), async (_, { storage }) => ({
    bytes: storage.sql.databaseSize,
    alarm: await storage.getAlarm(),
  }))
/** As an object that nobody ever wrote to: SQLite's first page. */
const NOTHING = { bytes: 4096, alarm: null }
const isGone = (task: LabTask) =>
  until('its object is empty', async () => JSON.stringify(await held(task)) === JSON.stringify(NOTHING))

const remove = (lab: Lab, task: LabTask) => lab.admin.call('DELETE', `/api/v1/tasks/${task.id}`)

/** A task with a Success, a Failure and a cancelled device. */
async function makeEnded(lab: Lab): Promise<LabTask> {
  await lab.bridge.post(lab.devices.map((device) => reports(device, 'v1')))
  const task = await lab.upgradeTo('v2')
  const [good, bad, third] = lab.devices
  for (const device of lab.devices) await lab.push(device)
  await lab.bridge.post([progresses(good!, 100), reports(good!, 'v2'), progresses(bad!, -1)])
  await task.post(`/devices/${third!.id}/cancel`)
  await task.becomes('finished')
  await until('outcomes are written', async () => (await outcomeOf(task, third!)) !== null)
  return task
}

it('an ended task is gone with its outcomes and its name in slots; the audit log stays', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const before = (await slotOf(lab.devices[0]!))!
  expect(before).toMatchObject({ task_id: task.id, succeeded_task_id: task.id })

  expect((await remove(lab, task)).status).toBe(204)
  expect((await lab.admin.call('GET', '/api/v1/tasks')).body.items).toEqual([])
  await isGone(task)
  for (const device of lab.devices) {
    expect(await outcomeOf(task, device)).toBeNull()
    expect(await slotOf(device)).toMatchObject({ task_id: '', active: 0, succeeded_task_id: null })
    expect((await lab.admin.call('GET', `/api/v1/devices/${device.id}/upgrades`)).body.items).toEqual([])
  }
  const { last_notice_id, succeeded_rank } = (await slotOf(lab.devices[0]!))!
  expect({ last_notice_id, succeeded_rank }).toEqual({
    last_notice_id: before.last_notice_id,
    succeeded_rank: before.succeeded_rank,
  })
  const audit = await lab.admin.call('GET', `/api/v1/audit?target=${task.id}`)
  expect(audit.body.items.map(({ action }: { action: string }) => action)).toContain('task.delete')
})

it('a repeated deletion is a 204, that of what never was a 404, and so is another tenant’s', async () => {
  const lab = await makeLab(3)
  const other = await makeLab()
  const task = await makeEnded(lab)
  expect((await remove(other, task)).status).toBe(404)
  expect((await remove(lab, task)).status).toBe(204)
  expect((await remove(lab, task)).status).toBe(204)
  await isGone(task)
  expect((await remove(lab, task)).status).toBe(204)
  expect((await remove(other, task)).status).toBe(404)
  expect((await lab.admin.call('DELETE', '/api/v1/tasks/tsk_none')).status).toBe(404)
})

it('only an admin deletes', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const operator = await makeClient('operator', lab.admin.tenantId)
  expect((await operator.call('DELETE', `/api/v1/tasks/${task.id}`)).status).toBe(403)
})

it('a task that goes on, or whose cancelled devices have not all ended, is a 409 and stays', async () => {
  const lab = await makeLab(2)
  const task = await lab.upgradeTo('v2')
  await lab.push(lab.devices[0]!)
  await lab.bridge.post([progresses(lab.devices[0]!, 10)])
  for (const path of ['', '/pause']) {
    if (path !== '') await task.post(path)
    const { status, body } = await remove(lab, task)
    expect([status, body.code]).toEqual([409, 'task.not_ended'])
  }
  expect((await task.get()).counts.total).toBe(2)
  await task.post('/cancel')
  await until('it can be deleted', async () => (await remove(lab, task)).status === 204)
  await isGone(task)
  expect(await slotOf(lab.devices[0]!)).toMatchObject({ active: 0, task_id: '' })
})

it('every call about a deleted task is a 404, and makes no new object', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const [device] = lab.devices
  await remove(lab, task)
  await isGone(task)
  const path = `/api/v1/tasks/${task.id}`
  for (const rest of ['', '/devices', `/devices/${device!.id}`, '/progress', '/report.csv']) {
    expect([rest, (await lab.admin.call('GET', path + rest)).status]).toEqual([rest, 404])
  }
  for (const rest of [
    '/pause',
    '/resume',
    '/cancel',
    '/retry',
    '/waves/next',
    `/devices/${device!.id}/retry`,
  ]) {
    expect([rest, (await task.post(rest)).status]).toEqual([rest, 404])
  }
  expect((await task.patch({ name: 'other' })).status).toBe(404)
  expect(await held(task)).toEqual(NOTHING)
})

it('what comes late from devices, other tasks and the catalogue leaves the object empty', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const [device] = lab.devices
  await remove(lab, task)
  await isGone(task)
  await lab.bridge.post([
    progresses(device!, 50),
    progresses(device!, 100),
    requests(device!, '1'),
    reports(device!, 'v2'),
  ])
  expect((await over(device!)('GET', '/device/v1/upgrade')).status).toBeLessThan(300)
  const stub = taskStub(env, task.id)
  await stub.deliver([])
  await stub.wake([device!.id])
  await stub.freeze()
  await stub.unfrozen()
  await stub.recalled('pkg_1')
  await stub.newcomers([device!.id])
  await stub.noteDownload(device!.id, 0, 'began')
  expect(await stub.ask([{ deviceId: device!.id, key: 'k' }])).toEqual([])
  expect(await stub.handOut(device!.id)).toBeNull()
  expect(await stub.cancelDevices([device!.id], 'device_deleted')).toBeNull()
  expect(await slotPeer(env, task.id).yieldSlots([device!.id], null)).toEqual([device!.id])
  await slotPeer(env, task.id).slotsFreed([device!.id])
  await slotPeer(env, task.id).replaceDevices([device!.id], 'tsk_1')
  const token = await makeToken(await downloadKey(env), {
    taskId: task.id,
    deviceId: device!.id,
    packageIndex: 0,
    expiresAt: Date.now() + 60_000,
  })
  expect((await exports.default.fetch(`http://edge-ota.test/d/${token}`)).status).toBe(410)
  expect(await held(task)).toEqual(NOTHING)
  expect((await env.DB.prepare('SELECT 1 FROM tasks WHERE id = ?').bind(task.id).all()).results).toEqual([])
  const ids = await listDurableObjectIds(env.UPGRADE_TASK)
  expect(ids.some((id) => id.equals(env.UPGRADE_TASK.idFromName('')))).toBe(false)
})

it('a device of a deleted task is upgraded by the next one, under a higher notice id', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const before = (await slotOf(lab.devices[0]!))!.last_notice_id as number
  await remove(lab, task)
  await isGone(task)
  const next = await lab.upgradeTo('v3')
  for (const device of lab.devices) {
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100), reports(device, 'v3')])
  }
  await next.becomes('finished')
  expect((await next.get()).counts.success).toBe(3)
  expect((await slotOf(lab.devices[0]!))!.last_notice_id).toBeGreaterThan(before)
})

it('a deletion that is cut off in the object goes on by itself', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const stub = taskStub(env, task.id)
  // The call reaches the object, and the Worker ends before it gets to the row.
  expect(await stub.leave('deleted')).toBeNull()
  expect((await lab.admin.call('GET', `/api/v1/tasks/${task.id}`)).status).toBe(404)
  await isGone(task)
  expect((await remove(lab, task)).status).toBe(204)
  expect((await env.DB.prepare('SELECT 1 FROM tasks WHERE id = ?').bind(task.id).all()).results).toEqual([])
})

it('a deletion goes on where the database failed it', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const batch = vi.spyOn(env.DB, 'batch')
  batch.mockRejectedValueOnce(new Error('D1_ERROR: internal error'))
  try {
    expect([204, 503]).toContain((await remove(lab, task)).status)
  } finally {
    batch.mockRestore()
  }
  await until('it is deleted', async () => (await remove(lab, task)).status === 204)
  await isGone(task)
})

it('a task that comes again under the id of a deleted one is not made', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const spec = await runInDurableObject(taskStub(env, task.id), (_, { storage }) =>
    JSON.parse(storage.sql.exec<{ spec: string }>('SELECT spec FROM task').one().spec),
  )
  await remove(lab, task)
  await isGone(task)
  expect(await taskStub(env, task.id).create(spec, [])).toBe(false)
  expect(await held(task)).toEqual(NOTHING)
})

it('a large task goes page by page, also if its object loses its memory in between', async () => {
  const lab = await makeLab(1200)
  const task = await lab.upgradeTo('v2')
  await until('all are in', async () => (await task.get()).counts.total === 1200)
  await task.post('/cancel')
  const count = async () =>
    (await env.DB.prepare('SELECT count(*) AS n FROM outcomes WHERE task_id = ?')
      .bind(task.id)
      .first<{ n: number }>())!.n
  await until('all outcomes are written', async () => (await count()) === 1200)
  await until('it is deleted', async () => (await remove(lab, task)).status === 204)
  await evictDurableObject(taskStub(env, task.id))
  await isGone(task)
  expect(await count()).toBe(0)
  const left = await env.DB.prepare(
    'SELECT count(*) AS n FROM upgrades WHERE tenant_id = ?2 AND ?1 IN (task_id, succeeded_task_id, waiting_task_id)',
  )
    .bind(task.id, lab.admin.tenantId)
    .first()
  expect(left).toEqual({ n: 0 })
})

it('webhooks hear nothing more of a deleted task', async () => {
  const lab = await makeLab(3)
  const { call } = lab.admin
  const task = await makeEnded(lab)
  const hook = await call('POST', '/api/v1/webhooks', {
    url: 'https://hooks.example.com/ota',
    events: ['task.finished', 'device.failed', 'device.rolled_back', 'task.stalled'],
  })
  await remove(lab, task)
  await lab.bridge.post([progresses(lab.devices[0]!, -1), reports(lab.devices[0]!, 'v0')])
  await isGone(task)
  const { items } = (await call('GET', `/api/v1/webhooks/${hook.body.id}/deliveries`)).body
  expect(items).toEqual([])
})

it('a call for a task that never was makes no object either', async () => {
  const never = { id: 'tsk_never' }
  await taskStub(env, never.id).deliver([])
  await taskStub(env, never.id).wake()
  expect(await held(never)).toEqual(NOTHING)
})

it('a retry under way does not bring a deleted task back', async () => {
  const lab = await makeLab(3)
  const task = await makeEnded(lab)
  const [retried, removed] = await Promise.all([task.post('/retry'), remove(lab, task)])
  if (removed.status === 409) {
    expect(retried.status).toBe(200)
    return
  }
  expect(removed.status).toBe(204)
  if (retried.status === 200) expect(retried.body.retried).toBe(0)
  else expect(retried.status).toBeOneOf([404, 409])
  await isGone(task)
  expect((await lab.admin.call('GET', `/api/v1/tasks/${task.id}`)).status).toBe(404)
})

it('the console offers the deletion of an ended task to admins only, and of none that goes on', async () => {
  const lab = await makeLab(3)
  const operator = await makeClient('operator', lab.admin.tenantId)
  const ended = await makeEnded(lab)
  const running = await lab.upgradeTo('v3')
  const origin = 'http://edge-ota.test'
  const offers = async (key: string, task: LabTask) => {
    const body = new URLSearchParams({ key })
    const signedIn = await exports.default.fetch(`${origin}/sign-in`, {
      method: 'POST',
      redirect: 'manual',
      body,
      headers: { origin },
    })
    const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!
    const page = await exports.default.fetch(`${origin}/tasks/${task.id}`, { headers: { cookie } })
    return (await page.text()).includes(`DELETE /api/v1/tasks/${task.id}`)
  }
  expect(await offers(lab.admin.key, ended)).toBe(true)
  expect(await offers(operator.key, ended)).toBe(false)
  expect(await offers(lab.admin.key, running)).toBe(false)
})
