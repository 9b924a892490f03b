import { env } from 'cloudflare:workers'
import { expect, it, onTestFinished, vi } from 'vitest'
import { app } from '../../../src/app.ts'
import { ACTIONS, actionOf } from '../../../src/audit/actions.ts'
import { audit } from '../../../src/audit/audit.ts'
import { MAX_DETAIL_BYTES, toDetail } from '../../../src/audit/detail.ts'
import { requireKey } from '../../../src/auth/middleware.ts'
import { createRouter } from '../../../src/http/openapi.ts'
import { type Client, makeClient, makeTenant } from '../api.ts'
import { makeLab } from '../lab.ts'
import { until } from '../lab-clock.ts'
import {
  makeDraft,
  makeTenantWithProduct,
  putBytes,
  randomBytes,
  whenVerified,
} from '../packages/packages-fixture.ts'
import { withoutTable } from '../without-table.ts'

interface Entry {
  id: string
  at: string
  action: string
  target: string | null
  detail: Record<string, unknown> | null
}

const entries = async ({ call }: Client, query = ''): Promise<Entry[]> =>
  (await call('GET', `/api/v1/audit?limit=200&${query}`)).body.items

const actions = async (client: Client, query = '') =>
  (await entries(client, query)).map(({ action }) => action).toReversed()

it('every call that changes something has an action name of its own', () => {
  const { paths } = app.getOpenAPI31Document({ openapi: '3.1.0', info: { title: 't', version: '1' } })
  const routes = Object.entries(paths ?? {}).flatMap(([path, methods]) =>
    ['post', 'put', 'patch', 'delete']
      .filter((method) => path.startsWith('/api/v1/') && method in (methods as object))
      .map(
        (method) => `${method.toUpperCase()} ${path.replace('/api/v1/', '').replace(/\{(\w+)\}/g, ':$1')}`,
      ),
  )
  expect(routes.length).toBeGreaterThan(20)
  expect(routes.filter((route) => ACTIONS[route] === undefined)).toEqual([])
  expect(Object.keys(ACTIONS).filter((route) => !routes.includes(route))).toEqual([])
  const names = Object.values(ACTIONS).filter((action) => action !== null)
  for (const name of names) expect(name).toMatch(/^[a-z]+\.[a-z_]+$/)
  expect(new Set(names).size).toBe(names.length)
})

it('a change without an action name is recorded by its method and path', () => {
  expect(actionOf('POST', '/api/v1/tasks/:id/pause')).toBe('task.pause')
  expect(actionOf('PUT', '/api/v1/packages/:id/uploads/:uploadId/parts/:n')).toBeNull()
  expect(actionOf('POST', '/api/v1/lamps/:id/blink')).toBe('POST lamps/:id/blink')
})

it('an audit entry says who did what, when, from where and to what', async () => {
  const admin = await makeTenant()
  const operator = await makeClient('operator', admin.tenantId)
  const from = { 'cf-connecting-ip': '2001:db8::7' }
  const started = Date.now()
  const { body: product } = await operator.call('POST', '/api/v1/products', { name: 'lamp' }, from)
  await operator.call('PATCH', `/api/v1/products/${product.id}`, { description: 'bright' })
  const { items } = (await admin.call('GET', '/api/v1/audit')).body
  const keyId = (await admin.call('GET', '/api/v1/keys')).body.items.at(-1).id
  expect(items).toEqual([
    {
      id: expect.stringMatching(/^aud_/),
      at: expect.stringMatching(/^\d{4}-.*Z$/),
      keyId,
      keyName: 'operator',
      role: 'operator',
      action: 'product.update',
      target: product.id,
      address: null,
      detail: { description: 'bright' },
    },
    {
      id: expect.stringMatching(/^aud_/),
      at: expect.stringMatching(/^\d{4}-.*Z$/),
      keyId,
      keyName: 'operator',
      role: 'operator',
      action: 'product.create',
      target: product.id,
      address: '2001:db8::7',
      detail: {
        name: 'lamp',
        bridge: 'default',
        notifyCancel: false,
        downloads: null,
        requireSignature: false,
      },
    },
  ])
  expect(Date.parse(items[1].at)).toBeGreaterThanOrEqual(started)
  expect(Date.parse(items[0].at)).toBeGreaterThanOrEqual(Date.parse(items[1].at))
})

it('an audit entry has no secret', async () => {
  const { call, productId, ...client } = await makeTenantWithProduct()
  const secrets = ['a-token-of-its-own', 'open sesame', 'its-username']
  const withToken = { productId, number: '1', accessToken: secrets[0] }
  const { body: device } = await call('POST', '/api/v1/devices', withToken)
  const credentials = { username: secrets[2], password: secrets[1] }
  expect((await call('POST', '/api/v1/devices', { productId, number: '2', credentials })).status).toBe(201)
  const csv = `number,access_token\n3,imported-token\n`
  const type = { 'content-type': 'text/csv' }
  await call('POST', `/api/v1/devices/import?productId=${productId}`, csv, type)
  const { body: rotated } = await call('POST', `/api/v1/devices/${device.id}/rotate-token`)
  const { body: key } = await call('POST', '/api/v1/keys', { name: 'ci', role: 'viewer' })
  const extData = { door: 'the code of the door' }
  await call('POST', '/api/v1/packages', { productId, name: 'f', version: 'v1', extData })
  const rows = await env.DB.prepare('SELECT * FROM audit_entries WHERE tenant_id = ?')
    .bind(client.tenantId)
    .all()
  const text = JSON.stringify(rows.results)
  for (const secret of [...secrets, 'imported-token', rotated.accessToken, key.key, 'the code of the door']) {
    expect(text).not.toContain(secret)
  }
  const listed = await entries({ call, ...client })
  expect(listed.find(({ target }) => target === key.id)).toMatchObject({
    action: 'key.create',
    detail: { name: 'ci', role: 'viewer' },
  })
  expect(listed.find(({ action }) => action === 'device.create')?.detail).toMatchObject({
    credentials: '(secret)',
  })
  expect(listed.find(({ action }) => action === 'device.import')).toMatchObject({
    target: null,
    detail: { productId },
  })
  expect(listed.find(({ action }) => action === 'package.create')?.detail).toMatchObject({
    extData: ['door'],
  })
})

it('the detail of an audit entry stays short, whatever the request', () => {
  expect(toDetail({})).toBeNull()
  expect(toDetail({ a: undefined, b: null, c: 1, d: 'x' })).toEqual({ b: null, c: 1, d: 'x' })
  const ids = Array.from({ length: 100_000 }, (_, n) => `dev_${n}`)
  expect(toDetail({ devices: { ids }, startAt: 0 })).toEqual({
    devices: { ids: { length: 100_000 } },
    startAt: '1970-01-01T00:00:00.000Z',
  })
  expect(
    toDetail({ url: 'https://user:pw@hook.example/T0/secret?x=1', secret: 's', webhookSecret: 's' }),
  ).toEqual({
    url: 'https://hook.example',
    secret: '(secret)',
    webhookSecret: '(secret)',
  })
  const long = toDetail({ name: 'n', description: 'ä'.repeat(1024), after: true })
  expect(long).toEqual({ name: 'n', description: `${'ä'.repeat(256)}…`, after: true })
  const many = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`field${n}`, '€'.repeat(100)]))
  const bounded = toDetail(many)!
  expect(bounded).toMatchObject({ field0: '€'.repeat(100), truncated: true })
  expect(new TextEncoder().encode(JSON.stringify(bounded)).byteLength).toBeLessThanOrEqual(MAX_DETAIL_BYTES)
})

it('refused calls and reads make no audit entry', async () => {
  const admin = await makeTenantWithProduct()
  const viewer = await makeClient('viewer', admin.tenantId)
  const before = await actions(admin)
  expect((await admin.call('POST', '/api/v1/products', { name: '' })).status).toBe(422)
  expect((await admin.call('POST', '/api/v1/products/prd_none/freeze')).status).toBe(404)
  expect((await viewer.call('POST', '/api/v1/products', { name: 'p' })).status).toBe(403)
  expect((await viewer.call('GET', '/api/v1/products')).status).toBe(200)
  expect((await admin.call('POST', '/api/v1/nowhere', {})).status).toBe(404)
  const device = { productId: admin.productId, number: '1' }
  expect((await admin.call('POST', '/api/v1/devices', device)).status).toBe(201)
  expect((await admin.call('POST', '/api/v1/devices', device)).status).toBe(409)
  expect(await actions(admin)).toEqual([...before, 'device.create'])
})

it('a call that is repeated with its Idempotency-Key makes one audit entry', async () => {
  const admin = await makeTenant()
  const key = { 'idempotency-key': 'once' }
  const first = await admin.call('POST', '/api/v1/products', { name: 'p' }, key)
  const again = await admin.call('POST', '/api/v1/products', { name: 'p' }, key)
  expect(again.headers.get('idempotency-replayed')).toBe('true')
  expect(await entries(admin)).toMatchObject([{ action: 'product.create', target: first.body.id }])
})

it('an upload is recorded as a whole, not part by part', async () => {
  const tenant = await makeTenantWithProduct()
  const id = await makeDraft(tenant)
  const path = `/api/v1/packages/${id}`
  const start = async () => (await tenant.call('POST', `${path}/uploads`, { size: 1000 })).body.uploadId
  const aborted = await start()
  await tenant.call('DELETE', `${path}/uploads/${aborted}`)
  const uploadId = await start()
  await putBytes(tenant, `${path}/uploads/${uploadId}/parts/1`, randomBytes(1000))
  await tenant.call('POST', `${path}/uploads/${uploadId}/complete`)
  expect((await whenVerified(tenant, id)).state).toBe('ready')
  const other = await makeDraft(tenant)
  await putBytes(tenant, `/api/v1/packages/${other}/file?filename=fw.bin`, randomBytes(10))
  expect(await entries(tenant, `target=${id}`)).toMatchObject([
    { action: 'package.upload_complete', detail: { uploadId } },
    { action: 'package.upload_start', detail: { size: 1000 } },
    { action: 'package.upload_abort', detail: { uploadId: aborted } },
    { action: 'package.upload_start' },
    { action: 'package.create' },
  ])
  expect(await entries(tenant, `target=${other}&action=package.file`)).toMatchObject([
    { detail: { filename: 'fw.bin' } },
  ])
})

it('calls that change a task are recorded, with the length of a long list of devices instead of the list', async () => {
  const lab = await makeLab(12)
  const startAt = new Date(Date.now() + 3600_000).toISOString()
  const ids = lab.devices.map(({ id }) => id)
  const pkg = await lab.addPackage('v2')
  const task = await lab.addTask(pkg, { devices: { ids }, startAt, policy: { mismatchPushes: 2 } })
  await task.post('/pause')
  await task.patch({ name: 'later', endAt: null })
  await until('the task has all its devices', async () => (await task.get()).counts.total === 12)
  await task.post(`/devices/${ids[0]}/cancel`)
  await task.post('/cancel')
  expect(await entries(lab.admin, `target=${task.id}`)).toMatchObject([
    { action: 'task.cancel', detail: null },
    { action: 'task.device_cancel', detail: { deviceId: ids[0] } },
    { action: 'task.update', detail: { name: 'later', endAt: null } },
    { action: 'task.pause', detail: null },
    {
      action: 'task.create',
      detail: {
        packageId: pkg,
        name: 'roll out',
        startAt,
        devices: { ids: { length: 12 } },
        policy: { mismatchPushes: 2 },
      },
    },
  ])
})

it('audit entries are listed newest first, page by page, by action, target, key and time', async () => {
  const admin = await makeTenant()
  const operator = await makeClient('operator', admin.tenantId)
  const ids: string[] = []
  for (const name of ['a', 'b', 'c']) {
    ids.push((await operator.call('POST', '/api/v1/products', { name })).body.id)
  }
  await admin.call('DELETE', `/api/v1/products/${ids[1]}`)
  expect(await actions(admin)).toEqual([
    ...Array.from({ length: 3 }, () => 'product.create'),
    'product.delete',
  ])
  const all = await entries(admin)
  const seen: string[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const after: string = cursor === '' ? '' : `&cursor=${cursor}`
    const { body } = await admin.call('GET', `/api/v1/audit?limit=3${after}`)
    seen.push(...body.items.map(({ id }: Entry) => id))
    cursor = body.nextCursor
  }
  expect(seen).toEqual(all.map(({ id }) => id))
  expect(seen).toHaveLength(4)
  expect(await actions(admin, 'action=product.delete')).toEqual(['product.delete'])
  expect(await actions(admin, `target=${ids[1]}`)).toEqual(['product.create', 'product.delete'])
  const keys = (await admin.call('GET', '/api/v1/keys')).body.items
  expect(await actions(admin, `keyId=${keys[0].id}`)).toEqual(['product.delete'])

  const set = (id: string, at: string) =>
    env.DB.prepare('UPDATE audit_entries SET at = ? WHERE id = ?').bind(Date.parse(at), id).run()
  for (const [index, day] of ['04', '03', '02', '01'].entries()) {
    await set(all[index]!.id, `2026-03-${day}T00:00:00Z`)
  }
  const between = 'from=2026-03-02T00:00:00Z&to=2026-03-04T01:00:00%2B01:00'
  expect((await entries(admin, between)).map(({ at }) => at.slice(8, 10))).toEqual(['03', '02'])
  const refused = await admin.call('GET', '/api/v1/audit?from=yesterday')
  expect(refused.body).toMatchObject({ status: 422, errors: [{ path: 'from' }] })
})

it("admins see their tenant's audit entries, and root sees the installation's", async () => {
  const [admin, other] = [await makeTenantWithProduct(), await makeTenantWithProduct()]
  for (const role of ['operator', 'viewer', 'bridge'] as const) {
    const client = await makeClient(role, admin.tenantId, 'default')
    expect((await client.call('GET', '/api/v1/audit')).status).toBe(403)
  }
  expect(await entries(admin, `target=${other.productId}`)).toEqual([])
  const root = await makeClient('root', null)
  const { body: tenant } = await root.call('POST', '/api/v1/tenants', { name: 'Acme' })
  const asked = { tenantId: tenant.id, name: 'first', role: 'admin' }
  const { body: key } = await root.call('POST', '/api/v1/keys', asked)
  expect((await entries(root)).slice(0, 2)).toMatchObject([
    { action: 'key.create', target: key.id, detail: asked },
    { action: 'tenant.create', target: tenant.id, detail: { name: 'Acme' } },
  ])
  expect(await entries(root, `target=${admin.productId}`)).toEqual([])
})

it('nobody can change or delete an audit entry', async () => {
  const admin = await makeTenantWithProduct()
  const root = await makeClient('root', null)
  const before = await entries(admin)
  for (const { call } of [admin, root]) {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      for (const path of ['/api/v1/audit', `/api/v1/audit/${before[0]!.id}`]) {
        expect((await call(method, path, {})).status, `${method} ${path}`).toBe(404)
      }
    }
  }
  await admin.call('DELETE', `/api/v1/products/${admin.productId}`)
  expect((await entries(admin)).slice(1)).toEqual(before)
})

it('a change succeeds although its audit entry cannot be written, and the entry is logged', async () => {
  const admin = await makeTenant()
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  onTestFinished(() => void vi.restoreAllMocks())
  const made = await withoutTable('audit_entries', () =>
    admin.call('POST', '/api/v1/products', { name: 'p' }),
  )
  expect(made.status).toBe(201)
  expect(await entries(admin)).toEqual([])
  expect(logged).toHaveBeenCalledTimes(1)
  expect(JSON.parse(logged.mock.calls[0]![0])).toMatchObject({
    code: 'audit.not_written',
    entry: { action: 'product.create', target: made.body.id, tenantId: admin.tenantId },
  })
})

it('the audit entry of a change is written although the database fails for a moment', async () => {
  const admin = await makeTenant()
  const making = await withoutTable('audit_entries', async () => {
    const answer = admin.call('POST', '/api/v1/products', { name: 'p' })
    await vi.waitUntil(
      async () =>
        (await env.DB.prepare('SELECT id FROM products WHERE tenant_id = ?').bind(admin.tenantId).first()) !==
        null,
      { timeout: 60_000 },
    )
    return { answer }
  })
  expect((await making.answer).status).toBe(201)
  expect(await actions(admin)).toEqual(['product.create'])
})

it('a route can record what it shows, and shows nothing if it cannot record it', async () => {
  const admin = await makeTenant()
  const router = createRouter()
  router.use(requireKey)
  router.get('/token/:id', async (c) => {
    await audit(c, { action: 'device.reveal_token', target: c.req.param('id'), detail: { accessToken: 't' } })
    return c.text('the token')
  })
  router.onError((_, c) => c.text('not shown', 500))
  const read = () =>
    router.request('/token/dev_1', { headers: { authorization: `Bearer ${admin.key}` } }, env)
  expect(await (await read()).text()).toBe('the token')
  expect(await entries(admin)).toMatchObject([
    { action: 'device.reveal_token', target: 'dev_1', detail: { accessToken: '(secret)' } },
  ])
  const refused = await withoutTable('audit_entries', async () => read())
  expect([refused.status, await refused.text()]).toEqual([500, 'not shown'])
})
