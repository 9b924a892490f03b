import { env } from 'cloudflare:workers'
import { inspectRoutes } from 'hono/dev'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { hashPassword, verifyPassword } from '../../../src/protocol/passwords.ts'
import { caller, makeClient, makeTenant } from '../api.ts'

/** What the public routes return to anyone. `/d/:token` needs a valid token, and the path itself is none. */
const PUBLIC = new Map([
  ['GET /healthz', 200],
  ['GET /openapi.json', 200],
  ['GET /docs', 200],
  ['GET /d/:token', 404],
  ['GET /favicon.ico', 200],
  ['GET /assets/:hash/:name', 404],
  // Sent from no page of the console.
  ['POST /sign-in', 403],
  ['POST /sign-out', 403],
])
const isPage = (path: string) => !/^\/(api|bridge|broker|device)\//.test(path)
const anyone = caller(undefined)

it('every route that is not public returns 401 without a key', async () => {
  const routes = inspectRoutes(app).filter(({ isMiddleware, method }) => !isMiddleware && method !== 'ALL')
  expect(routes.length).toBeGreaterThan(20)
  for (const { method, path } of routes) {
    const answer = await anyone(method, path)
    const expected = PUBLIC.get(`${method} ${path}`) ?? (isPage(path) ? 200 : 401)
    expect(answer.status, `${method} ${path}`).toBe(expected)
    // A page of the console leads to the sign-in.
    if (isPage(path) && !PUBLIC.has(`${method} ${path}`)) expect(answer.body, path).toContain('name="key"')
    if (expected === 401) {
      expect(answer.headers.get('www-authenticate'), path).toMatch(/^Bearer/)
      expect(answer.headers.get('content-type')).toBe('application/problem+json')
      expect(answer.body).toMatchObject({ status: 401, title: 'Unauthorized', type: 'about:blank' })
    }
  }
})

it('a key that is misspelt, unknown or revoked is refused', async () => {
  const admin = await makeTenant()
  for (const key of [
    '',
    'x',
    `${admin.key}x`,
    admin.key.replace(/.$/, admin.key.endsWith('A') ? 'E' : 'A'),
  ]) {
    expect((await caller(key)('GET', '/api/v1/products')).status).toBe(401)
  }
  const made = await admin.call('POST', '/api/v1/keys', { name: 'short-lived', role: 'viewer' })
  const viewer = caller(made.body.key)
  expect((await viewer('GET', '/api/v1/products')).status).toBe(200)
  expect((await admin.call('DELETE', `/api/v1/keys/${made.body.id}`)).status).toBe(204)
  expect((await viewer('GET', '/api/v1/products')).status).toBe(401)
  expect((await admin.call('DELETE', `/api/v1/keys/${made.body.id}`)).status).toBe(204)
})

it('a key is shown once, and only its hash is stored', async () => {
  const admin = await makeTenant()
  const made = await admin.call('POST', '/api/v1/keys', { name: 'ci', role: 'operator' })
  expect(made).toMatchObject({
    status: 201,
    body: { name: 'ci', role: 'operator', bridge: null, tenantId: admin.tenantId, revokedAt: null },
  })
  expect(made.body.id).toMatch(/^key_/)
  expect(made.body.key).toMatch(/^eota_[A-Za-z0-9_-]{43}$/)
  const list = await admin.call('GET', '/api/v1/keys')
  expect(list.body.items).toHaveLength(2)
  expect(JSON.stringify(list.body)).not.toMatch(/"key"|hash/)
  const row = await env.DB.prepare('SELECT * FROM api_keys WHERE id = ?').bind(made.body.id).first()
  expect(JSON.stringify(row)).not.toContain(made.body.key)
})

it('each role may do its own part and nothing above it', async () => {
  const admin = await makeTenant()
  const viewer = await makeClient('viewer', admin.tenantId)
  const operator = await makeClient('operator', admin.tenantId)
  const root = await makeClient('root', null)
  const bridge = await makeClient('bridge', admin.tenantId, 'default')
  const product = { name: 'p' }
  expect((await viewer.call('POST', '/api/v1/products', product)).body.code).toBe('auth.forbidden')
  const made = await operator.call('POST', '/api/v1/products', product)
  expect(made.status).toBe(201)
  expect((await viewer.call('GET', `/api/v1/products/${made.body.id}`)).status).toBe(200)
  expect((await operator.call('DELETE', `/api/v1/products/${made.body.id}`)).status).toBe(403)
  expect((await admin.call('DELETE', `/api/v1/products/${made.body.id}`)).status).toBe(204)
  expect((await operator.call('GET', '/api/v1/keys')).status).toBe(403)
  for (const { call } of [root, bridge]) expect((await call('GET', '/api/v1/products')).status).toBe(403)
  for (const { call } of [admin, bridge]) expect((await call('GET', '/api/v1/tenants')).status).toBe(403)
  for (const { call } of [admin, root]) expect((await call('POST', '/broker/v1/auth', {})).status).toBe(403)
})

it('root makes tenants, their first key, and keys of the installation', async () => {
  const root = await makeClient('root', null)
  const tenant = await root.call('POST', '/api/v1/tenants', { name: ' Acme ' })
  expect(tenant).toMatchObject({ status: 201, body: { name: 'Acme', id: expect.stringMatching(/^ten_/) } })
  const listed: unknown[] = []
  for (let cursor = ''; cursor !== null; ) {
    const { body } = await root.call('GET', `/api/v1/tenants?limit=200${cursor && `&cursor=${cursor}`}`)
    listed.push(...body.items)
    cursor = body.nextCursor
  }
  expect(listed).toContainEqual(tenant.body)
  const tenantId = tenant.body.id
  const first = await root.call('POST', '/api/v1/keys', { name: 'first', role: 'admin', tenantId })
  expect(first.status).toBe(201)
  expect((await caller(first.body.key)('GET', '/api/v1/keys')).body.items).toHaveLength(1)
  expect((await root.call('GET', `/api/v1/keys?tenantId=${tenantId}`)).body.items).toHaveLength(1)

  const make = (body: object) => root.call('POST', '/api/v1/keys', { name: 'k', ...body })
  expect((await make({ role: 'bridge', bridge: 'eu' })).body).toMatchObject({ tenantId: null, bridge: 'eu' })
  expect((await make({ role: 'root' })).status).toBe(201)
  expect((await make({ role: 'admin' })).status).toBe(422)
  expect((await make({ role: 'root', tenantId })).status).toBe(422)
  expect((await make({ role: 'bridge' })).body.errors[0].path).toBe('bridge')
  expect((await make({ role: 'viewer', tenantId, bridge: 'x' })).status).toBe(422)
  expect((await make({ role: 'bridge', bridge: 'a/b' })).status).toBe(422)
  expect((await make({ role: 'admin', tenantId: 'ten_none' })).body.code).toBe('tenant.not_found')
})

it('an admin reaches keys of the own tenant only', async () => {
  const [admin, other] = [await makeTenant(), await makeTenant()]
  const make = (body: object) => admin.call('POST', '/api/v1/keys', { name: 'k', ...body })
  expect((await make({ role: 'root' })).status).toBe(403)
  expect((await make({ role: 'viewer', tenantId: other.tenantId })).status).toBe(404)
  const theirs = await other.call('POST', '/api/v1/keys', { name: 'k', role: 'viewer' })
  expect((await admin.call('DELETE', `/api/v1/keys/${theirs.body.id}`)).body.code).toBe('key.not_found')
  expect((await admin.call('GET', `/api/v1/keys?tenantId=${other.tenantId}`)).status).toBe(404)
})

it('the time when a key was last used is noted at most once an hour', async () => {
  const { call, key, tenantId } = await makeTenant()
  const lastUsedAt = () =>
    env.DB.prepare('SELECT last_used_at AS at FROM api_keys WHERE tenant_id = ?')
      .bind(tenantId)
      .first<number>('at')
  expect(key && (await lastUsedAt())).toBeNull()
  await call('GET', '/api/v1/products')
  const first = await lastUsedAt()
  expect(first).toBeGreaterThan(0)
  await env.DB.prepare('UPDATE api_keys SET last_used_at = ?')
    .bind(first! - 1000)
    .run()
  await call('GET', '/api/v1/products')
  expect(await lastUsedAt()).toBe(first! - 1000)
  await env.DB.prepare('UPDATE api_keys SET last_used_at = ?')
    .bind(first! - 3_600_001)
    .run()
  await call('GET', '/api/v1/products')
  expect(await lastUsedAt()).toBeGreaterThanOrEqual(first!)
})

it('a password is stored as a hash only', async () => {
  const stored = await hashPassword('open sesame')
  expect(stored).toMatch(/^pbkdf2\$10000\$[A-Za-z0-9_-]{22}\$[A-Za-z0-9_-]{43}$/)
  expect(await hashPassword('open sesame')).not.toBe(stored)
  expect(await verifyPassword('open sesame', stored)).toBe(true)
  expect(await verifyPassword('open Sesame', stored)).toBe(false)
  expect(await verifyPassword('', 'nonsense')).toBe(false)
})
