import { env } from 'cloudflare:workers'
import { beforeEach, expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { newKey } from '../../../src/auth/key.ts'
import { type Client, caller, makeClient, makeTenant } from '../api.ts'
import { moveClock } from '../lab-clock.ts'

// Wrong keys are limited by address, before any database work.

const MAX_FAILURES = 100

let tenant: Client & { tenantId: string }
let addresses = 0
let address: { 'cf-connecting-ip': string }
beforeEach(async () => {
  tenant = await makeTenant()
  addresses += 1
  address = { 'cf-connecting-ip': `203.0.113.${addresses}` }
})

const read = (key: string, from = address) => caller(key)('GET', '/api/v1/products', undefined, from)

/** Calls the app with a database that counts what it is asked. */
async function countingCalls(
  call: (send: (key: string) => Promise<number>) => Promise<void>,
): Promise<number> {
  let asked = 0
  const DB = {
    prepare: (sql: string) => {
      asked += 1
      return env.DB.prepare(sql)
    },
    batch: (statements: D1PreparedStatement[]) => env.DB.batch(statements),
  }
  await call(async (key) => {
    const request = new Request('http://edge-ota.test/api/v1/products', {
      headers: { authorization: `Bearer ${key}`, ...address },
    })
    return (await app.fetch(request, { ...env, DB } as never)).status
  })
  return asked
}

it('2,000 wrong keys of one address cost few reads, one after the other or at once', async () => {
  const afterEachOther = await countingCalls(async (send) => {
    for (let count = 0; count < 1000; count++) await send(newKey())
  })
  expect(afterEachOther).toBeLessThanOrEqual(MAX_FAILURES)
  addresses += 1
  address = { 'cf-connecting-ip': `203.0.113.${addresses}` }
  const atOnce = await countingCalls(async (send) => {
    const statuses = await Promise.all(Array.from({ length: 1000 }, () => send(newKey())))
    expect(new Set(statuses)).toEqual(new Set([401, 429]))
  })
  expect(atOnce).toBeLessThanOrEqual(MAX_FAILURES)
})

it('too many wrong keys are a 429 that says when to come again, and other addresses go on', async () => {
  for (let count = 0; count < MAX_FAILURES; count++) expect((await read(newKey())).status).toBe(401)
  const refused = await read(newKey())
  expect(refused).toMatchObject({ status: 429, body: { code: 'rate.limited' } })
  expect(refused.headers.get('retry-after')).toBe('60')
  expect((await read(newKey(), { 'cf-connecting-ip': '198.51.100.1' })).status).toBe(401)
  // What has not even the form of a key costs nothing, and is not counted.
  expect((await read('nonsense')).status).toBe(401)
})

it('an address counts as one in all its spellings, and an IPv6 /64 network counts as one', async () => {
  for (let count = 0; count < MAX_FAILURES; count++) {
    await read(newKey(), { 'cf-connecting-ip': `2001:db8:0:${addresses}::${count}` })
  }
  const from = (ip: string) => read(newKey(), { 'cf-connecting-ip': ip })
  expect((await from(`2001:DB8:0:${addresses}:ffff::1`)).status).toBe(429)
  expect((await from(`2001:db8:1:${addresses}::1`)).status).toBe(401)
})

it('a key that was right a while ago goes on while a neighbour behind its address tries wrong ones', async () => {
  const bridge = await makeClient('bridge', tenant.tenantId, 'default')
  const ask = () => bridge.call('POST', '/broker/v1/auth', { username: 'nobody' }, address)
  expect((await ask()).status).toBe(200)
  for (let count = 0; count < MAX_FAILURES + 1; count++) await read(newKey())
  expect((await read(newKey())).status).toBe(429)
  expect((await ask()).body).toEqual({ result: 'deny' })
  // A right key of which nothing is known yet has to wait, and a broker takes anything but a 200 as no opinion.
  const late = await makeClient('bridge', tenant.tenantId, 'default')
  expect((await read(tenant.key)).status).toBe(429)
  expect(await late.call('POST', '/broker/v1/auth', { username: 'nobody' }, address)).toMatchObject({
    status: 200,
    body: { result: 'deny' },
  })
  expect((await read(tenant.key, { 'cf-connecting-ip': '198.51.100.2' })).status).toBe(200)
})

it('a revoked key is not known as right any more', async () => {
  const made = await tenant.call('POST', '/api/v1/keys', { name: 'k', role: 'viewer' })
  expect((await read(made.body.key)).status).toBe(200)
  await tenant.call('DELETE', `/api/v1/keys/${made.body.id}`)
  expect((await read(made.body.key)).status).toBe(401)
  for (let count = 0; count < MAX_FAILURES; count++) await read(newKey())
  expect((await read(made.body.key)).status).toBe(429)
})

it('the limit of wrong keys ends after a minute', async () => {
  for (let count = 0; count < MAX_FAILURES + 1; count++) await read(newKey())
  expect((await read(tenant.key)).status).toBe(429)
  moveClock(61_000)
  expect((await read(tenant.key)).status).toBe(200)
})

it('the same wrong key again and again is limited much later: it guesses nothing', async () => {
  const wrong = newKey()
  for (let count = 0; count < 5 * MAX_FAILURES; count++) expect((await read(wrong)).status).toBe(401)
  expect((await read(newKey())).status).toBe(401)
  for (let count = 0; count < 6 * MAX_FAILURES; count++) await read(wrong)
  expect((await read(wrong)).status).toBe(429)
})

it('a bridge that goes on asking is not locked out by the wrong keys of its neighbour, however long that lasts', async () => {
  const bridge = await makeClient('bridge', tenant.tenantId, 'default')
  const ask = () => bridge.call('GET', '/bridge/v1/credentials', undefined, address)
  for (let minute = 0; minute < 12; minute++) {
    expect((await ask()).status).toBe(200)
    for (let count = 0; count <= MAX_FAILURES; count++) await read(newKey())
    moveClock(55_000)
    expect((await ask()).status).toBe(200)
    moveClock(6_000)
  }
})

it('more right keys at once than may be wrong are all let in', async () => {
  const makeViewer = () => makeClient('viewer', tenant.tenantId)
  const viewers = await Promise.all(Array.from({ length: MAX_FAILURES + 30 }, makeViewer))
  const answers = await Promise.all(viewers.map(({ key }) => read(key)))
  expect(answers.filter(({ status }) => status !== 200)).toEqual([])
})
