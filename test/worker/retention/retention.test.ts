import { createScheduledController, runInDurableObject } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import worker from '../../../src/index.ts'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import { makeTenant } from '../api.ts'
import { type Lab, type LabTask, makeLab, outcomeOf, progresses, reports, slotOf } from '../lab.ts'
import { until } from '../lab-clock.ts'

// The cron, at times to come: what is old goes, and what is kept of it can still be had.

const DAY = 24 * 3_600_000
const YEARS = 500 * DAY

/** The cron rings; `days`: its settings, beside the defaults. */
const ring = (ahead: number, settings: Record<string, string> = {}) =>
  worker.scheduled(
    createScheduledController({ scheduledTime: new Date(Date.now() + ahead) }),
    Object.create(
      env,
      Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, { value }])),
    ),
  )

async function makeEnded(lab: Lab): Promise<LabTask> {
  const [good, bad] = lab.devices
  await lab.bridge.post(lab.devices.map((device) => reports(device, 'v1')))
  const task = await lab.upgradeTo('v2')
  for (const device of lab.devices) await lab.push(device)
  await lab.bridge.post([progresses(good!, 100), reports(good!, 'v2'), progresses(bad!, -1)])
  await task.becomes('finished')
  await until('outcomes are written', async () => (await outcomeOf(task, bad!)) !== null)
  await until('it is in D1', async () => (await rowOf(task))?.status === 'finished')
  return task
}

const rowOf = (task: LabTask) =>
  env.DB.prepare('SELECT status, archived_at FROM tasks WHERE id = ?')
    .bind(task.id)
    .first<{ status: string; archived_at: number | null }>()
const tables = (task: LabTask) =>
  runInDurableObject(
    taskStub(env, task.id),
    (_, { storage }) =>
      storage.sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'devices'").toArray().length,
  )
const count = async (table: string, where: string, ...values: unknown[]) =>
  (await env.DB.prepare(`SELECT count(*) AS n FROM ${table} WHERE ${where}`)
    .bind(...values)
    .first<{ n: number }>())!.n
const csvOf = async (lab: Lab, task: LabTask) =>
  (
    await exports.default.fetch(`http://edge-ota.test/api/v1/tasks/${task.id}/report.csv`, {
      headers: { authorization: `Bearer ${lab.admin.key}` },
    })
  ).text()

it('a task that ended long ago leaves its summary and its report, and nothing else', async () => {
  const lab = await makeLab(2)
  const task = await makeEnded(lab)
  const path = `/api/v1/tasks/${task.id}`
  const [view, csv] = [await task.get(), await csvOf(lab, task)]
  const samples = (await lab.admin.call('GET', `${path}/progress`)).body
  expect(csv).toContain(lab.devices[1]!.number)
  await ring(399 * DAY)
  expect(await rowOf(task)).toMatchObject({ archived_at: null })
  await ring(401 * DAY)
  await until('its object is empty', async () => (await tables(task)) === 0)
  expect((await rowOf(task))!.archived_at).not.toBeNull()
  expect(await task.get()).toEqual(view)
  expect(await csvOf(lab, task)).toBe(csv)
  expect((await lab.admin.call('GET', `${path}/progress`)).body).toEqual(samples)
  expect((await lab.admin.call('GET', '/api/v1/tasks')).body.items).toMatchObject([
    { id: task.id, status: 'finished' },
  ])
  for (const rest of ['/devices', `/devices/${lab.devices[0]!.id}`]) {
    const { status, body } = await lab.admin.call('GET', path + rest)
    expect([status, body.code]).toEqual([410, 'task.archived'])
  }
  for (const rest of ['/retry', '/cancel', '/pause', '/resume', '/waves/next']) {
    const { status, body } = await task.post(rest)
    expect([rest, status, body.code]).toEqual([rest, 409, 'task.archived'])
  }
  expect(await outcomeOf(task, lab.devices[0]!)).toBeNull()
  expect(await slotOf(lab.devices[0]!)).toMatchObject({ task_id: '', succeeded_task_id: null })
  // Its package is free, and it can still be deleted itself.
  expect((await lab.admin.call('DELETE', `/api/v1/packages/${view.packageIds[0]}`)).status).toBe(204)
  expect((await lab.admin.call('DELETE', path)).status).toBe(204)
  expect((await lab.admin.call('GET', path)).status).toBe(404)
  expect((await env.PACKAGES.list({ prefix: `archive/${lab.admin.tenantId}/` })).objects).toEqual([])
})

it('an archived task has a page in the console, with its report and without what is gone', async () => {
  const lab = await makeLab(2)
  const task = await makeEnded(lab)
  await ring(YEARS)
  await until('its object is empty', async () => (await tables(task)) === 0)
  const origin = 'http://edge-ota.test'
  const signedIn = await exports.default.fetch(`${origin}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ key: lab.admin.key }),
    headers: { origin },
  })
  const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!
  const page = await exports.default.fetch(`${origin}/tasks/${task.id}`, { headers: { cookie } })
  const text = await page.text()
  expect(page.status).toBe(200)
  expect(text).toContain('archived')
  expect(text).toContain(`DELETE /api/v1/tasks/${task.id}`)
  expect(text).not.toContain(`/tasks/${task.id}/live`)
})

it('an archiving that R2 failed is made again, and loses nothing', async () => {
  const lab = await makeLab(2)
  const task = await makeEnded(lab)
  const csv = await csvOf(lab, task)
  const put = vi.spyOn(env.PACKAGES, 'put').mockRejectedValueOnce(new Error('put: internal (10001)'))
  await ring(YEARS)
  await until('R2 was asked', () => put.mock.calls.length > 0)
  put.mockRestore()
  expect(await csvOf(lab, task)).toBe(csv)
  await until('its object is empty', async () => (await tables(task)) === 0)
  expect(await csvOf(lab, task)).toBe(csv)
})

it('a task that goes on is never archived, however old', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await ring(YEARS)
  expect(await tables(task)).toBe(1)
  expect((await task.get()).status).toBe('running')
})

it('what was never made old is kept: 0 days means for ever', async () => {
  const lab = await makeLab(2)
  const task = await makeEnded(lab)
  const entries = await count('audit_entries', 'tenant_id = ?', lab.admin.tenantId)
  await ring(YEARS, { RETENTION_DAYS: '0', AUDIT_RETENTION_DAYS: '0' })
  await ring(399 * DAY, { RETENTION_DAYS: 'many', AUDIT_RETENTION_DAYS: '-3' })
  expect(await rowOf(task)).toMatchObject({ archived_at: null })
  expect(await outcomeOf(task, lab.devices[0]!)).not.toBeNull()
  expect(await count('audit_entries', 'tenant_id = ?', lab.admin.tenantId)).toBe(entries)
})

it('audit entries and outcomes go by settings of their own', async () => {
  const lab = await makeLab(2)
  const task = await makeEnded(lab)
  await ring(10 * DAY, { AUDIT_RETENTION_DAYS: '9' })
  expect(await count('audit_entries', 'tenant_id = ?', lab.admin.tenantId)).toBe(0)
  expect(await outcomeOf(task, lab.devices[0]!)).not.toBeNull()
})

it('rows of devices that are gone go, and those of others stay', async () => {
  const lab = await makeLab(2)
  await makeEnded(lab)
  const [gone, stays] = lab.devices
  await lab.admin.call('DELETE', `/api/v1/devices/${gone!.id}`)
  await ring(0)
  for (const table of ['outcomes', 'upgrades', 'device_modules']) {
    expect([table, await count(table, 'device_id = ?', gone!.id)]).toEqual([table, 0])
    expect([table, await count(table, 'device_id = ?', stays!.id)]).toEqual([table, 1])
  }
})

it('old outcomes go page by page, also over more pages than a run looks at', async () => {
  const { tenantId } = await makeTenant()
  const rows = 110_000
  const inserted = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows})`
  await env.DB.prepare(
    `${inserted} INSERT INTO devices (id, tenant_id, product_id, number, access_token, tags, enabled, created_at)
     SELECT ?1 || i, ?1, 'prd', i, ?1 || i, '[]', 1, 0 FROM n`,
  )
    .bind(tenantId)
    .run()
  await env.DB.prepare(
    `${inserted} INSERT INTO outcomes (device_id, task_id, tenant_id, module, target_version, status, rolled_back, attempt, finished_at)
     SELECT ?1 || i, 'tsk', ?1, 'default', 'v2', 'success', 0, 1, i FROM n`,
  )
    .bind(tenantId)
    .run()
  await ring(0)
  const left = await count('outcomes', 'tenant_id = ?', tenantId)
  expect(left).toBeGreaterThan(0)
  expect(left).toBeLessThan(rows / 2)
  await ring(0)
  expect(await count('outcomes', 'tenant_id = ?', tenantId)).toBe(0)
})

it('webhooks are told once that the database fills up, and again after it was emptied', async () => {
  const { call, tenantId } = await makeTenant()
  const url = 'https://hooks.example.com/ota'
  const { body } = await call('POST', '/api/v1/webhooks', { url, events: ['storage.filling'] })
  const deliveries = async () => (await call('GET', `/api/v1/webhooks/${body.id}/deliveries`)).body.items
  await ring(0)
  expect(await deliveries()).toEqual([])
  const full = { DATABASE_LIMIT_GB: '0.0001' }
  await ring(0, full)
  await ring(DAY, full)
  expect(await deliveries()).toMatchObject([{ type: 'storage.filling' }])
  await ring(2 * DAY)
  await ring(3 * DAY, full)
  expect(await deliveries()).toHaveLength(2)
  expect(JSON.stringify(await deliveries())).not.toContain(tenantId)
})

it('a tenant is told once for a task whose object fills up', async () => {
  const lab = await makeLab(1)
  const { call } = lab.admin
  const url = 'https://hooks.example.com/ota'
  const { body } = await call('POST', '/api/v1/webhooks', { url, events: ['storage.filling'] })
  const task = await lab.upgradeTo('v2')
  await env.DB.prepare('UPDATE tasks SET object_bytes = 8100000000 WHERE id = ?').bind(task.id).run()
  await ring(0)
  await ring(DAY)
  const { items } = (await call('GET', `/api/v1/webhooks/${body.id}/deliveries`)).body
  expect(items).toMatchObject([{ type: 'storage.filling' }])
})

it('a part of a run that fails holds up no other', async () => {
  const { tenantId } = await makeTenant()
  await env.DB.prepare(
    `INSERT INTO audit_entries (id, tenant_id, at, key_id, key_name, role, action) VALUES (?, ?, 0, 'k', 'k', 'admin', 'a')`,
  )
    .bind(newId('aud'), tenantId)
    .run()
  await env.DB.prepare('ALTER TABLE outcomes RENAME TO hidden').run()
  try {
    await ring(0)
  } finally {
    await env.DB.prepare('ALTER TABLE hidden RENAME TO outcomes').run()
  }
  expect(await count('audit_entries', 'tenant_id = ?', tenantId)).toBe(0)
})
