import { env, exports } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { makeClient, makeTenant } from '../api.ts'
import { makeLab } from '../lab.ts'

const visit = (path: string, init: RequestInit = {}) =>
  exports.default.fetch(`http://edge-ota.test${path}`, { redirect: 'manual', ...init })

async function signIn(key: string, headers: Record<string, string> = {}) {
  const body = new URLSearchParams({ key, to: '/products' })
  return visit('/sign-in', { method: 'POST', body, headers: { origin: 'http://edge-ota.test', ...headers } })
}

it('a visitor signs in to the console with a key, and the browser never gets the key', async () => {
  const tenant = await makeTenant()
  const answer = await signIn(tenant.key)
  expect([answer.status, answer.headers.get('location')]).toEqual([303, '/products'])
  const cookie = answer.headers.get('set-cookie')!
  expect(cookie).toMatch(/HttpOnly/)
  expect(cookie).toMatch(/SameSite=Lax/)
  expect(cookie).not.toContain(tenant.key)
  const page = await visit('/', { headers: { cookie: cookie.split(';')[0]! } })
  expect(page.status).toBe(200)
  expect(page.headers.get('content-security-policy')).toContain("script-src 'self'")
  expect(await page.text()).toContain('Overview')
})

it('the console serves the scripts and styles of its pages so that browsers cache them', async () => {
  const html = await (await visit('/sign-in')).text()
  const paths = [...html.matchAll(/"(\/assets\/[^"]+)"/g)].map(([, path]) => path!)
  expect(paths).toHaveLength(13)
  for (const path of paths) {
    const asset = await visit(path)
    expect([asset.status, asset.headers.get('cache-control')]).toEqual([
      200,
      'public, max-age=31536000, immutable',
    ])
    expect((await asset.text()).length).toBeGreaterThan(100)
  }
})

it('the console sends a visitor who is not signed in to the sign-in', async () => {
  const answer = await visit('/')
  expect([answer.status, answer.headers.get('location')]).toEqual([303, '/sign-in?to=%2F'])
})

it('the console shows every page in both languages, and escapes a name with markup', async () => {
  const lab = await makeLab(2)
  const nasty = '<img src=x onerror=alert(1)> "quoted" \u202eright to left 😀'
  await lab.admin.call('PATCH', `/api/v1/devices/${lab.devices[0]!.id}`, { name: nasty })
  const packageId = await lab.addPackage('v2')
  const task = await lab.addTask(packageId)
  await task.reaches(lab.devices[0]!, 'pending')
  const cookie = (await signIn(lab.admin.key)).headers.get('set-cookie')!.split(';')[0]!
  const paths = [
    '/',
    '/parts/tasks',
    '/parts/figures',
    '/parts/versions',
    '/parts/attention',
    '/products',
    `/products/${lab.productId}`,
    '/devices',
    `/devices/${lab.devices[0]!.id}`,
    '/firmware',
    `/packages/${packageId}`,
    `/tasks/${task.id}`,
    `/tasks/${task.id}/devices`,
    `/tasks/${task.id}/state`,
    `/tasks/${task.id}/charts`,
    `/tasks/${task.id}/devices/${lab.devices[0]!.id}`,
    '/settings',
    '/settings/webhooks',
    '/settings/audit',
  ]
  for (const language of ['en', 'zh']) {
    for (const path of paths) {
      const page = await visit(path, { headers: { cookie: `${cookie}; edge_ota_language=${language}` } })
      const html = await page.text()
      expect([path, page.status, html.includes('<img src=x')]).toEqual([path, 200, false])
      expect(html.length, path).toBeLessThan(100_000)
    }
  }
  const list = await (await visit('/devices', { headers: { cookie } })).text()
  expect(list).toContain('&lt;img src=x onerror=alert(1)&gt;')
})

it('the console shows a page for an address without content', async () => {
  const tenant = await makeTenant()
  const cookie = (await signIn(tenant.key)).headers.get('set-cookie')!.split(';')[0]!
  const answer = await visit('/products/prd_none', { headers: { cookie } })
  expect(answer.status).toBe(404)
  expect(await answer.text()).toContain('There is nothing at this address.')
})

it("the console's own pages can use the API with their session, and no other site can", async () => {
  const tenant = await makeTenant()
  const cookie = (await signIn(tenant.key)).headers.get('set-cookie')!.split(';')[0]!
  const create = (origin?: string) =>
    visit('/api/v1/products', {
      method: 'POST',
      headers: { cookie, 'content-type': 'application/json', ...(origin && { origin }) },
      body: JSON.stringify({ name: 'lamp' }),
    })
  expect((await create('http://edge-ota.test')).status).toBe(201)
  expect((await create('https://evil.example')).status).toBe(401)
  expect((await create()).status).toBe(401)
})

it('the console refuses a sign-in that is not a form, and one that is too large', async () => {
  const post = async (body: string, type: string) => {
    const headers = { origin: 'http://edge-ota.test', 'content-type': type }
    return (await visit('/sign-in', { method: 'POST', body, headers })).status
  }
  expect(await post('nonsense', 'multipart/form-data')).toBe(401)
  expect(await post('nonsense', 'multipart/form-data; boundary=x')).toBe(401)
  expect(await post('{"key":1}', 'application/json')).toBe(401)
  expect(await post(`key=${'x'.repeat(20_000)}`, 'application/x-www-form-urlencoded')).toBe(413)
})

it('the console sends the whole page to the sign-in if a part of it is requested without a session', async () => {
  const headers = {
    'hx-request': 'true',
    'hx-current-url': 'http://edge-ota.test/tasks/tsk_1?status=failure',
  }
  const answer = await visit('/tasks/tsk_1/devices', { headers })
  expect([answer.status, answer.headers.get('hx-redirect')]).toEqual([
    401,
    '/sign-in?to=%2Ftasks%2Ftsk_1%3Fstatus%3Dfailure',
  ])
})

it('the console shows its pages whatever their query says', async () => {
  const lab = await makeLab(1)
  const packageId = await lab.addPackage('v2')
  const task = await lab.addTask(packageId)
  const cookie = (await signIn(lab.admin.key)).headers.get('set-cookie')!.split(';')[0]!
  const values = ['%00', '-1', '1e999', '%F0%9F%98%80', '%ff%fe', 'x'.repeat(4000), "'%22--", '%5B%5D']
  const names = 'cursor search name productId version tag online status action from to keyId'.split(' ')
  const queries = values.map((value) => names.map((name) => `${name}=${value}`).join('&'))
  const paths = [
    '/',
    '/products',
    '/devices',
    '/devices/choice',
    '/firmware',
    `/packages/${packageId}`,
    `/tasks/${task.id}`,
    `/tasks/${task.id}/devices`,
    '/settings',
    '/settings/webhooks',
    '/settings/audit',
    '/sign-in',
    '/language',
  ]
  for (const path of paths) {
    for (const query of queries) {
      const answer = await visit(`${path}?${query}`, { headers: { cookie } })
      expect([path, query.slice(0, 20), answer.status < 400]).toEqual([path, query.slice(0, 20), true])
      await answer.body?.cancel()
    }
  }
})

it('the console refuses a text that is not a key, a key of no tenant, and the session of a revoked key', async () => {
  expect((await signIn('nonsense')).status).toBe(401)
  expect((await signIn((await makeClient('root', null)).key)).status).toBe(401)
  const tenant = await makeTenant()
  const cookie = (await signIn(tenant.key)).headers.get('set-cookie')!.split(';')[0]!
  await env.DB.prepare('UPDATE api_keys SET revoked_at = 1 WHERE tenant_id = ?').bind(tenant.tenantId).run()
  expect((await visit('/', { headers: { cookie } })).status).toBe(303)
})

it('the console shows a viewer no control that changes something, and refuses to show it a token', async () => {
  const lab = await makeLab(1)
  const viewer = await makeClient('viewer', lab.admin.tenantId)
  const cookie = (await signIn(viewer.key)).headers.get('set-cookie')!.split(';')[0]!
  for (const path of [
    '/products',
    `/products/${lab.productId}`,
    '/devices',
    `/devices/${lab.devices[0]!.id}`,
  ]) {
    const html = await (await visit(path, { headers: { cookie } })).text()
    expect(html).not.toContain('data-api')
    expect(html).not.toContain(lab.devices[0]!.token)
  }
  const headers = { cookie, origin: 'http://edge-ota.test' }
  expect((await visit(`/devices/${lab.devices[0]!.id}/token`, { method: 'POST', headers })).status).toBe(403)
})

it('the console shows an operator the token of a device on request, and records that in the audit log', async () => {
  const lab = await makeLab(1)
  const cookie = (await signIn(lab.admin.key)).headers.get('set-cookie')!.split(';')[0]!
  const headers = { cookie, origin: 'http://edge-ota.test' }
  const [device] = lab.devices
  const shown = await visit(`/devices/${device!.id}/token`, { method: 'POST', headers })
  expect(await shown.text()).toContain(device!.token)
  const log = await lab.admin.call('GET', '/api/v1/audit?action=device.reveal_token')
  expect(log.body.items).toMatchObject([{ target: device!.id }])
})

it("the console's pages begin with a doctype, so that browsers render them in standards mode", async () => {
  expect(await (await visit('/sign-in')).text()).toMatch(/^<!doctype html><html /)
})

it('the console filters the audit log by day, and ignores what is not a day', async () => {
  const lab = await makeLab(1)
  const cookie = (await signIn(lab.admin.key)).headers.get('set-cookie')!.split(';')[0]!
  const today = new Date().toISOString().slice(0, 10)
  const shown = async (query: string) =>
    (await (await visit(`/settings/audit?${query}`, { headers: { cookie } })).text()).includes(
      'product.create',
    )
  expect(await shown(`from=${today}&to=2099-12-31`)).toBe(true)
  expect(await shown('to=2020-01-01')).toBe(false)
  expect(await shown('from=2099-01-01')).toBe(false)
  expect(await shown('from=nonsense&to=2020-99-99')).toBe(true)
})

it("the console's script and style are together under 100 KB compressed", async () => {
  const html = await (await visit('/sign-in')).text()
  const paths = [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path!)
  expect(paths.length).toBeGreaterThan(5)
  const sizes = await Promise.all(
    paths.map(async (path) => {
      const { body } = await visit(path)
      return (await new Response(body!.pipeThrough(new CompressionStream('gzip'))).arrayBuffer()).byteLength
    }),
  )
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(100_000)
})

it('the console has no asset with the name of a property that every object has', async () => {
  expect((await visit('/assets/x/toString')).status).toBe(404)
})
