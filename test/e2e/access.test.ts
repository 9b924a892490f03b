import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { sign } from 'hono/jwt'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type System, startSystem } from './system.ts'

// The test's own server publishes a team's keys as Cloudflare Access does; tokens are signed with them.

const AUDIENCE = 'of-this-application'

let system: System
let keyServer: Server
let team: string
let tenantId: string
let own: KeyObject
let other: KeyObject
let asked = 0

const jwk = (key: KeyObject, kid: string) => ({ ...key.export({ format: 'jwk' }), kid, alg: 'RS256' })
const newPair = () => generateKeyPairSync('rsa', { modulusLength: 2048 })

beforeAll(async () => {
  const { privateKey, publicKey } = newPair()
  own = privateKey
  other = newPair().privateKey
  keyServer = createServer((request, response) => {
    asked++
    if (request.url === '/cdn-cgi/access/certs')
      response.end(JSON.stringify({ keys: [jwk(publicKey, 'one')] }))
    else response.writeHead(404).end()
  }).listen(0, '127.0.0.1')
  await once(keyServer, 'listening')
  team = `http://127.0.0.1:${(keyServer.address() as AddressInfo).port}`
  tenantId = 'ten_access'
  const grants = [
    { who: 'ada@example.com', tenantId, role: 'operator' },
    { who: '@example.com', tenantId, role: 'viewer' },
  ]
  system = await startSystem({
    withBridge: false,
    withDownloads: false,
    vars: { ACCESS_TEAM: team, ACCESS_AUDIENCE: AUDIENCE, ACCESS_GRANTS: JSON.stringify(grants) },
  })
  const { DB } = await system.worker.getEnv()
  await DB.prepare('INSERT INTO tenants (id, name, created_at) VALUES (?, ?, 1)')
    .bind(tenantId, 'access')
    .run()
})
afterAll(async () => {
  await system?.close()
  keyServer?.close()
})

const now = () => Math.floor(Date.now() / 1000)
const token = (claims: object = {}, key = own, kid = 'one') =>
  sign(
    { iss: team, aud: [AUDIENCE], email: 'ada@example.com', iat: now(), exp: now() + 600, ...claims },
    jwk(key, kid) as never,
    'RS256',
  )

const visit = (path: string, jwt: string, init: RequestInit = {}) =>
  fetch(new URL(path, system.url), {
    redirect: 'manual',
    ...init,
    headers: { 'cf-access-jwt-assertion': jwt, ...(init.headers as object) },
  })

const createProduct = async (jwt: string, origin = system.url.origin) =>
  (
    await visit('/api/v1/products', jwt, {
      method: 'POST',
      headers: { origin, 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'lamp' }),
    })
  ).status

it('a visitor with a token of Access is let in, in the role of the first grant that fits', async () => {
  const page = await visit('/', await token())
  expect([page.status, (await page.text()).includes('ada@example.com')]).toEqual([200, true])
  expect(await createProduct(await token())).toBe(201)
  const viewer = await token({ email: 'Bob@Example.com' })
  expect((await visit('/devices', viewer)).status).toBe(200)
  expect(await createProduct(viewer)).toBe(403)
})

it("the token of Access also counts as a cookie, but only from the console's own pages", async () => {
  const jwt = await token()
  const headers = { cookie: `CF_Authorization=${jwt}` }
  expect((await fetch(new URL('/', system.url), { headers, redirect: 'manual' })).status).toBe(200)
  expect(await createProduct(jwt, 'https://evil.example')).toBe(401)
})

it('signing out leads to the sign-out of Access', async () => {
  const init = { method: 'POST', headers: { origin: system.url.origin } }
  const answer = await visit('/sign-out', await token(), init)
  expect([answer.status, answer.headers.get('location')]).toEqual([303, '/cdn-cgi/access/logout'])
  // The sign-out leads on to the team's domain, which the content security policy must allow.
  const policy = (await visit('/', await token())).headers.get('content-security-policy')
  expect(policy).toContain(`form-action 'self' ${team}`)
})

it('a visitor without a valid token of Access is sent to the sign-in', async () => {
  const { exp: _, ...forEver } = { iss: team, aud: [AUDIENCE], email: 'ada@example.com', exp: 1 }
  const tokens = {
    'of another application': await token({ aud: ['another'] }),
    'of another team': await token({ iss: 'https://other.cloudflareaccess.com' }),
    'that has ended': await token({ exp: now() - 1 }),
    'that never ends': await sign(forEver, jwk(own, 'one') as never, 'RS256'),
    'by another key': await token({}, other),
    'by an unknown key': await token({}, other, 'two'),
    'of an address without a grant': await token({ email: 'eve@evil.example' }),
    'of an address that only ends alike': await token({ email: 'eve@evil-example.com' }),
    'of a service': await token({ email: undefined, common_name: 'service' }),
    'signed with a public value': await sign({ ...forEver, exp: now() + 600 }, 'secret', 'HS256'),
    'that is no token': 'nonsense',
    'that is too long': `${await token()}${'a'.repeat(10_000)}`,
  }
  for (const [what, jwt] of Object.entries(tokens)) {
    const answer = await visit('/devices', jwt)
    expect([what, answer.status, answer.headers.get('location')]).toEqual([
      what,
      303,
      '/sign-in?to=%2Fdevices',
    ])
  }
})

it("tokens with unknown keys do not make the Worker fetch the team's keys each time", async () => {
  const before = asked
  for (let n = 0; n < 5; n++) await visit('/', await token({}, other, `unknown-${n}`))
  expect(asked).toBe(before)
})
