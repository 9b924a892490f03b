import { env, exports } from 'cloudflare:workers'
import { beforeAll, expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { newKey } from '../../../src/auth/key.ts'
import { type Client, caller, makeClient, makeTenant } from '../api.ts'
import { moveClock } from '../lab-clock.ts'

const HTTP = 'http://edge-ota.test'
const HTTPS = 'https://edge-ota.test'

let tenant: Client & { tenantId: string }
beforeAll(async () => {
  tenant = await makeTenant()
})

/** With a secret that is not the public one, as it is deployed. */
const deployed = { ...env, SESSION_SECRET: 'a secret of this installation' }
const fetchFrom = (origin: string, path: string, init: RequestInit = {}) => {
  const request = new Request(origin + path, { redirect: 'manual', ...init })
  return origin === HTTPS ? app.fetch(request, deployed as never) : exports.default.fetch(request)
}
const post = (path: string, fields: Record<string, string>, headers: object = {}, origin = HTTP) =>
  fetchFrom(origin, path, {
    method: 'POST',
    body: new URLSearchParams(fields),
    // From an address of its own, so that the limit is met by the test of the limit alone.
    headers: { origin, 'cf-connecting-ip': `2001:db8:5:${++visits}::1`, ...headers },
  })
let visits = 0
const signIn = (key: string, headers: object = {}, origin = HTTP) =>
  post('/sign-in', { key }, headers, origin)
const cookieOf = (answer: Response) => answer.headers.get('set-cookie')!.split(';')[0]!
const mayRead = async (cookie: string, origin = HTTP) =>
  (await fetchFrom(origin, '/products', { headers: { cookie } })).status === 200
const entries = async (by: Client, query: string) =>
  (await by.call('GET', `/api/v1/audit?limit=200&${query}`)).body.items

it.each([HTTP, HTTPS])(
  'a sign-out over %s ends the session for good, also for whoever kept its cookie',
  async (origin) => {
    const [cookie, other] = [
      cookieOf(await signIn(tenant.key, {}, origin)),
      cookieOf(await signIn(tenant.key, {}, origin)),
    ]
    expect(await mayRead(cookie, origin)).toBe(true)
    const out = await post('/sign-out', {}, { cookie }, origin)
    expect([out.status, out.headers.get('location')]).toEqual([303, '/sign-in'])
    expect(out.headers.get('set-cookie')).toMatch(/Max-Age=0/)
    expect(await mayRead(cookie, origin)).toBe(false)
    const api = await fetchFrom(origin, '/api/v1/products', { headers: { cookie, origin } })
    expect(api.status).toBe(401)
    // The session of another browser goes on.
    expect(await mayRead(other, origin)).toBe(true)
    expect((await post('/sign-out', {}, { cookie }, origin)).status).toBe(303)
  },
)

it('a session ends after 12 hours, and its row goes with a later sign-in', async () => {
  const owner = await makeTenant()
  const cookie = cookieOf(await signIn(owner.key))
  const rows = () =>
    env.DB.prepare(
      'SELECT count(*) AS n FROM sessions WHERE key_id IN (SELECT id FROM api_keys WHERE tenant_id = ?)',
    )
      .bind(owner.tenantId)
      .first<number>('n')
  moveClock(12 * 3600_000 - 60_000)
  expect(await mayRead(cookie)).toBe(true)
  moveClock(61_000)
  expect(await mayRead(cookie)).toBe(false)
  expect(await rows()).toBe(1)
  await signIn(owner.key)
  expect(await rows()).toBe(1)
})

it('D1 has no session that could be put into a cookie, and no cookie can be made without the secret', async () => {
  const cookie = cookieOf(await signIn(tenant.key))
  const id = decodeURIComponent(cookie.split('=')[1]!).split('.')[0]!
  const rows = await env.DB.prepare('SELECT * FROM sessions').all()
  expect(JSON.stringify(rows.results)).not.toContain(id)
  expect(await mayRead(`edge_ota_session=${id}`)).toBe(false)
  expect(await mayRead(`edge_ota_session=${id}.${'A'.repeat(43)}%3D`)).toBe(false)
  // The cookie of the release before.
  expect(await mayRead('edge_ota_session=key_1.9999999999.x')).toBe(false)
})

it('over HTTPS every cookie has the prefix __Host-, and over plain http none', async () => {
  for (const answer of [await signIn(tenant.key, {}, HTTPS), await fetchFrom(HTTPS, '/language?to=zh')]) {
    expect(answer.headers.get('set-cookie')).toMatch(/^__Host-edge_ota_\w+=/)
    expect(answer.headers.get('set-cookie')).toMatch(/; Path=\/(;|$)/)
    expect(answer.headers.get('set-cookie')).toMatch(/; Secure/)
    expect(answer.headers.get('set-cookie')).not.toMatch(/Domain/i)
    expect(answer.headers.get('cache-control')).toBe('no-store')
  }
  const session = await signIn(tenant.key, {}, HTTPS)
  expect(session.headers.get('set-cookie')).toMatch(/HttpOnly/)
  // A cookie without the prefix may be another host's.
  const bare = cookieOf(session).replace('__Host-', '')
  expect(await mayRead(cookieOf(session), HTTPS)).toBe(true)
  expect(await mayRead(bare, HTTPS)).toBe(false)
  expect((await signIn(tenant.key)).headers.get('set-cookie')).toMatch(/^edge_ota_session=/)
  const chinese = await fetchFrom(HTTPS, '/sign-in', { headers: { cookie: '__Host-edge_ota_language=zh' } })
  expect(await chinese.text()).toContain('登录')
})

it('sign-ins stand in the audit log of the tenant', async () => {
  const owner = await makeTenant()
  await signIn(owner.key, { 'cf-connecting-ip': '203.0.113.77' })
  const [entry, ...more] = await entries(owner, 'action=session.start')
  expect(entry).toMatchObject({ role: 'admin', address: '203.0.113.77', target: entry.keyId })
  expect(more).toEqual([])
  expect(JSON.stringify(entry)).not.toContain(owner.key)
})

it('refused sign-ins stand in the audit log of whose key it was, else in that of the installation', async () => {
  moveClock(60_000)
  const [owner, root] = [await makeTenant(), await makeClient('root', null)]
  const bridge = await owner.call('POST', '/api/v1/keys', { name: 'b', role: 'bridge', bridge: 'default' })
  const viewer = await owner.call('POST', '/api/v1/keys', { name: 'v', role: 'viewer' })
  await owner.call('DELETE', `/api/v1/keys/${viewer.body.id}`)
  const unknown = newKey()
  for (const key of [bridge.body.key, viewer.body.key, unknown, 'nonsense', root.key]) {
    expect((await signIn(key)).status).toBe(401)
  }
  const own = await entries(owner, 'action=session.refuse')
  expect(own).toMatchObject([
    { keyId: viewer.body.id, detail: { reason: 'revoked' } },
    { keyId: bridge.body.id, detail: { reason: 'not_of_a_tenant' } },
  ])
  const installation = await entries(root, 'action=session.refuse')
  expect(installation.slice(0, 3)).toMatchObject([
    { role: 'root', detail: { reason: 'not_of_a_tenant' } },
    { keyId: 'unknown', detail: { reason: 'unknown_key' } },
    { keyId: 'unknown', detail: { reason: 'unknown_key' } },
  ])
  expect(JSON.stringify(installation)).not.toContain(unknown)
})

it('refused sign-ins cannot fill the audit log, and the log tells how many it left out', async () => {
  moveClock(120_000)
  const root = await makeClient('root', null)
  const before = (await entries(root, 'action=session.refuse')).length
  for (let count = 0; count < 30; count++) {
    await signIn(newKey(), { 'cf-connecting-ip': `2001:db8:${count}::1` })
  }
  expect((await entries(root, 'action=session.refuse')).length - before).toBe(10)
  moveClock(60_000)
  await signIn(newKey())
  expect((await entries(root, 'action=session.refuse'))[0]).toMatchObject({ detail: { leftOutBefore: 20 } })
})

it('sign-in has a limit of its own by address, answered as a page', async () => {
  const from = { 'cf-connecting-ip': '203.0.113.99' }
  let last = await signIn('nonsense', from)
  // The rate limit's window may turn over once in between.
  for (let count = 0; count < 130 && last.status !== 429; count++) last = await signIn('nonsense', from)
  expect(last.status).toBe(429)
  expect(last.headers.get('retry-after')).toBe('60')
  expect(last.headers.get('content-type')).toContain('text/html')
  const html = await last.text()
  expect(html).toContain('Too many attempts')
  expect(html).toContain('name="key"')
  expect((await signIn(tenant.key, from)).status).toBe(429)
  expect((await signIn(tenant.key, { 'cf-connecting-ip': '203.0.113.98' })).status).toBe(303)
  const chinese = await signIn('nonsense', { ...from, cookie: 'edge_ota_language=zh' })
  expect(await chinese.text()).toContain('尝试次数过多')
  // The devices of that address are not concerned.
  expect((await caller('no-token')('GET', '/device/v1/upgrade', undefined, from)).status).toBe(401)
})
