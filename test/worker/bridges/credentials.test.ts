import { env } from 'cloudflare:workers'
import { createHash } from 'node:crypto'
import { beforeEach, expect, it } from 'vitest'
import { readCredentials } from '../../../src/bridges/credentials.ts'
import { newId } from '../../../src/common/ids.ts'
import {
  credentialKey,
  type FeedItem,
  type FeedPage,
  MAX_FEED_ITEMS,
} from '../../../src/protocol/credentials-feed.ts'
import { type Client, caller, makeClient, makeTenant } from '../api.ts'

type Tenant = Client & { tenantId: string }

let tenant: Tenant
let bridge: Client
let productId: string
let count = 0

/** A token must have 16 characters; so have the short names of these tests. */
const long = (name: string) => name.padEnd(16, '-')
const makeProduct = async (owner: Client, name = 'default'): Promise<string> =>
  (await owner.call('POST', '/api/v1/products', { name, bridge: name })).body.id
const makeDevice = async (
  body: Record<string, unknown> & { accessToken?: string | undefined } = {},
  owner: Client = tenant,
  product = productId,
) => {
  count += 1
  const device = { productId: product, number: `N-${count}`, accessToken: `token-${count}`, ...body }
  const made = await owner.call('POST', '/api/v1/devices', {
    ...device,
    accessToken: device.accessToken && long(device.accessToken),
  })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body
}
const importTokens = (tokens: string[], product = productId) =>
  tenant.call(
    'POST',
    `/api/v1/devices/import?productId=${product}`,
    ['number,access_token', ...tokens.map((token) => `i-${token},${long(token)}`)].join('\n'),
  )
const readPage = async (asked: Client, query: { after?: string; limit?: number } = {}): Promise<FeedPage> => {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]))
  const { status, body } = await asked.call('GET', `/bridge/v1/credentials?${text}`)
  expect(status).toBe(200)
  return body
}

/** A bridge that reads the feed on from its cursor. `knows` and `has` look up usernames as a bridge does. */
function reader(asked: Client, limit?: number) {
  const known = new Map<string, FeedItem>()
  let after: string | undefined
  let salt = ''
  return {
    async read() {
      const pages: FeedPage[] = []
      do {
        const page = await readPage(asked, { ...(after && { after }), ...(limit && { limit }) })
        if (page.reset) known.clear()
        for (const item of page.items) {
          if (item.state === 'enabled') known.set(item.key, item)
          else known.delete(item.key)
        }
        pages.push(page)
        after = page.cursor
        salt = page.salt
      } while (pages.at(-1)?.more)
      return {
        pages,
        items: pages.flatMap(({ items }) => items),
        resets: pages.filter((p) => p.reset).length,
      }
    },
    knows: (username: string) => known.get(credentialKey(salt, long(username))),
    has: (...usernames: string[]) => usernames.map((name) => known.has(credentialKey(salt, long(name)))),
    size: () => known.size,
  }
}

const rowsOf = async (sql: string, ...values: unknown[]) =>
  (
    await env.DB.prepare(sql)
      .bind(...values)
      .run()
  ).meta

beforeEach(async () => {
  tenant = await makeTenant()
  bridge = await makeClient('bridge', tenant.tenantId, 'default')
  productId = await makeProduct(tenant)
})

it('the credentials feed has all devices of a bridge, and no username in clear', async () => {
  const token = await makeDevice({ accessToken: 'a-token', number: 'n1' })
  await makeDevice({
    accessToken: undefined,
    number: 'a b',
    credentials: { username: 'ba--------------', password: 'pw' },
  })
  const feed = reader(bridge)
  const { pages, items } = await feed.read()
  expect(items).toHaveLength(2)
  expect(feed.knows('a-token')).toMatchObject({ passwordHash: null, number: 'n1', state: 'enabled' })
  expect(feed.knows('ba')).toMatchObject({ number: null, state: 'enabled' })
  expect(feed.knows('ba')?.passwordHash).toMatch(/^pbkdf2\$/)
  for (const secret of ['a-token', 'ba--', token.id]) expect(JSON.stringify(pages)).not.toContain(secret)
  expect(pages[0]).toMatchObject({ reset: true, more: false })
})

it('the credentials feed comes in pages, and a reader may go on from any of them', async () => {
  await importTokens(Array.from({ length: 25 }, (_, at) => `paged-${at}`))
  const first = await readPage(bridge, { limit: 10 })
  expect(first).toMatchObject({ reset: true, more: true })
  const again = await readPage(bridge, { after: first.cursor, limit: 10 })
  expect(again).toEqual(await readPage(bridge, { after: first.cursor, limit: 10 }))
  const feed = reader(bridge, 10)
  const { pages } = await feed.read()
  expect(feed.size()).toBe(25)
  expect(pages.every(({ items }) => items.length <= 10)).toBe(true)
  expect((await bridge.call('GET', '/bridge/v1/credentials?limit=2001')).status).toBe(422)
  expect((await bridge.call('GET', `/bridge/v1/credentials?after=${'x'.repeat(129)}`)).status).toBe(422)
})

it('the credentials feed has each device that was disabled, enabled again, renamed or deleted, and no other', async () => {
  const devices = []
  for (const name of ['off', 'on', 'renamed', 'deleted', 'stays']) {
    devices.push(await makeDevice({ accessToken: `x-${name}-${count}` }))
  }
  const [off, on, renamed, deleted, stays] = devices
  const path = (device: { id: string }) => `/api/v1/devices/${device.id}`
  await tenant.call('PATCH', path(on), { enabled: false })
  const feed = reader(bridge)
  await feed.read()
  expect(feed.size()).toBe(4)

  await tenant.call('PATCH', path(off), { enabled: false })
  await tenant.call('PATCH', path(on), { enabled: true })
  const { accessToken } = (await tenant.call('POST', `${path(renamed)}/rotate-token`)).body
  await tenant.call('DELETE', path(deleted))
  await tenant.call('PATCH', path(stays), { name: 'another name', tags: ['x'], enabled: true })
  const { items, resets } = await feed.read()
  expect([items.length, resets]).toEqual([5, 0])
  expect(feed.has(off.accessToken, renamed.accessToken, deleted.accessToken)).toEqual([false, false, false])
  expect(feed.has(on.accessToken, accessToken, stays.accessToken)).toEqual([true, true, true])
})

it('the credentials feed has what an import changed', async () => {
  await importTokens(['imp-1', 'imp-2'])
  const feed = reader(bridge)
  await feed.read()
  await tenant.call(
    'POST',
    `/api/v1/devices/import?productId=${productId}`,
    `number,access_token,name\ni-imp-1,${long('imp-new')},\ni-imp-2,${long('imp-2')},renamed\n`,
  )
  const { items } = await feed.read()
  expect(items).toHaveLength(2)
  expect(feed.has('imp-1', 'imp-new', 'imp-2')).toEqual([false, true, true])
})

it('the credentials feed has a changed token even if the statement that changes it ignores conflicts', async () => {
  const device = await makeDevice({ accessToken: 'ignored-1' })
  const feed = reader(bridge)
  for (const token of ['ignored-2', 'ignored-1', 'ignored-2']) {
    await feed.read()
    await rowsOf('UPDATE OR IGNORE devices SET access_token = ? WHERE id = ?', long(token), device.id)
  }
  await feed.read()
  expect(feed.has('ignored-1', 'ignored-2')).toEqual([false, true])
})

it("both bridges' credentials feeds show that a device moved from one bridge to the other", async () => {
  const eu = await makeClient('bridge', tenant.tenantId, 'eu')
  const euProduct = await makeProduct(tenant, 'eu')
  const device = await makeDevice({ accessToken: 'moves' })
  const [here, there] = [reader(bridge), reader(eu)]
  await Promise.all([here.read(), there.read()])
  expect([...here.has('moves'), ...there.has('moves')]).toEqual([true, false])
  await tenant.call('PATCH', `/api/v1/devices/${device.id}`, { productId: euProduct })
  const results = await Promise.all([here.read(), there.read()])
  expect([...here.has('moves'), ...there.has('moves')]).toEqual([false, true])
  expect(results.map(({ resets }) => resets)).toEqual([0, 0])
})

it('the credentials feed starts anew when the bridge gets other products, and only then', async () => {
  await makeDevice({ accessToken: 'scope-1' })
  const feed = reader(bridge)
  await feed.read()
  await makeProduct(tenant, 'elsewhere')
  expect((await feed.read()).resets).toBe(0)
  await tenant.call('PATCH', `/api/v1/products/${productId}`, { bridge: 'elsewhere' })
  expect((await feed.read()).resets).toBe(1)
  expect(feed.has('scope-1')).toEqual([false])
  await tenant.call('PATCH', `/api/v1/products/${productId}`, { bridge: 'default' })
  expect((await feed.read()).resets).toBe(1)
  expect(feed.has('scope-1')).toEqual([true])
})

it("a tenant's devices move from the shared bridge's credentials feed to the tenant's own bridge as soon as that has a key", async () => {
  const other = await makeTenant()
  const shared = await makeClient('bridge', null, 'default')
  await makeDevice({ accessToken: 'theirs' }, other, await makeProduct(other))
  const feed = reader(shared)
  await feed.read()
  expect(feed.has('theirs')).toEqual([true])
  const key = await other.call('POST', '/api/v1/keys', { name: 'b', role: 'bridge', bridge: 'default' })
  const own = reader({ ...shared, call: caller(key.body.key) })
  expect((await feed.read()).resets).toBe(1)
  await own.read()
  expect([...feed.has('theirs'), ...own.has('theirs')]).toEqual([false, true])
  await other.call('DELETE', `/api/v1/keys/${key.body.id}`)
  await feed.read()
  expect(feed.has('theirs')).toEqual([true])
})

/** What another tenant does with its devices while the feed is read. */
async function otherTenant() {
  const other = await makeTenant()
  const theirProduct = await makeProduct(other)
  const path = ({ id }: { id: string }) => `/api/v1/devices/${id}`
  return {
    make: (accessToken: string) => makeDevice({ accessToken }, other, theirProduct),
    makeBasic: () => {
      const credentials = { username: `their-basic-${count}`, password: 'pw' }
      return makeDevice({ accessToken: undefined, number: 'their-number', credentials }, other, theirProduct)
    },
    disable: (device: { id: string }) => other.call('PATCH', path(device), { enabled: false }),
    rotate: (device: { id: string }) => other.call('POST', `${path(device)}/rotate-token`),
    remove: (device: { id: string }) => other.call('DELETE', path(device)),
  }
}

it("the credentials feed has nothing of another tenant's devices, whatever becomes of them: not even a hash to guess by", async () => {
  const other = await otherTenant()
  const before = await other.make('before-them')
  const own = reader(bridge)
  expect((await own.read()).items).toEqual([])
  const shared = reader(await makeClient('bridge', null, 'not-theirs'))
  await shared.read()
  const [disabled, rotated, removed] = [
    await other.make('their-1'),
    await other.make('their-2'),
    await other.makeBasic(),
  ]
  await other.disable(disabled)
  await other.rotate(rotated)
  await other.remove(removed)
  await other.remove(before)
  for (const feed of [own, shared]) expect((await feed.read()).items).toEqual([])
})

it('the credentials feed says that a username is gone to those whose it was, also if another tenant has it now', async () => {
  const other = await otherTenant()
  const device = await makeDevice({ accessToken: 'handed-over' })
  const feed = reader(bridge)
  await feed.read()
  expect(feed.has('handed-over')).toEqual([true])
  await tenant.call('DELETE', `/api/v1/devices/${device.id}`)
  const theirs = await other.make('handed-over')
  expect((await feed.read()).items).toMatchObject([{ state: 'gone' }])
  expect(feed.has('handed-over')).toEqual([false])
  await other.disable(theirs)
  await feed.read()
  expect(feed.has('handed-over')).toEqual([false])
})

it('the credentials feed says what is gone of devices from before usernames knew whose they are', async () => {
  const device = await makeDevice({ accessToken: 'from-before' })
  await env.DB.prepare('UPDATE credential_changes SET tenant_id = NULL').run()
  const feed = reader(bridge)
  await feed.read()
  await tenant.call('PATCH', `/api/v1/devices/${device.id}`, { enabled: false })
  await feed.read()
  expect(feed.has('from-before')).toEqual([false])
  await env.DB.prepare('UPDATE credential_changes SET tenant_id = NULL').run()
  await tenant.call('PATCH', `/api/v1/devices/${device.id}`, { enabled: true })
  await feed.read()
  await tenant.call('DELETE', `/api/v1/devices/${device.id}`)
  await feed.read()
  expect(feed.has('from-before')).toEqual([false])
})

it('the credentials feed has the shape that bridges of earlier releases read', async () => {
  await makeDevice({ accessToken: 'shape-1' })
  const { accessToken: _, ...device } = await makeDevice({ accessToken: 'shape-2' })
  const page = await readPage(bridge)
  await tenant.call('PATCH', `/api/v1/devices/${device.id}`, { enabled: false })
  const { items } = await readPage(bridge, { after: page.cursor })
  expect(Object.keys(page).toSorted()).toEqual(['cursor', 'items', 'more', 'reset', 'salt'])
  for (const item of [...page.items, ...items]) {
    expect(Object.keys(item).toSorted()).toEqual(['key', 'number', 'passwordHash', 'state'])
  }
  expect(items).toEqual([
    { key: credentialKey(page.salt, long('shape-2')), passwordHash: null, number: null, state: 'gone' },
  ])
})

it('a cursor of the feed of the release before begins the feed anew, once', async () => {
  await makeDevice({ accessToken: 'before-release' })
  const { cursor, salt } = await readPage(bridge)
  const products = [productId].join('\n')
  const before = createHash('sha256').update(`${salt}\n${products}`).digest('base64url')
  const old = [...cursor.split('.').slice(0, 2), before].join('.')
  const page = await readPage(bridge, { after: old })
  expect(page.reset).toBe(true)
  expect((await readPage(bridge, { after: page.cursor })).reset).toBe(false)
})

it('each bridge key has a salt of its own, which stays the same', async () => {
  await makeDevice({ accessToken: 'salted' })
  const second = await makeClient('bridge', tenant.tenantId, 'default')
  const [one, again, other] = [await readPage(bridge), await readPage(bridge), await readPage(second)]
  expect(again.salt).toBe(one.salt)
  expect(other.salt).not.toBe(one.salt)
  expect(other.items[0]?.key).not.toBe(one.items[0]?.key)
  expect((await readPage(second, { after: one.cursor })).reset).toBe(true)
  expect((await readPage(bridge, { after: one.cursor })).reset).toBe(false)
})

it('the credentials feed starts anew for an unreadable cursor and for one from a database that was restored', async () => {
  await makeDevice()
  for (const after of ['', 'x', '1.1.x', '😀']) expect((await readPage(bridge, { after })).reset).toBe(true)
  const { cursor } = await readPage(bridge)
  const [, ...rest] = cursor.split('.')
  expect((await readPage(bridge, { after: ['999999999', ...rest].join('.') })).reset).toBe(true)
})

it('the credentials feed is for bridge keys only', async () => {
  for (const role of ['admin', 'operator', 'viewer'] as const) {
    const client = await makeClient(role, tenant.tenantId)
    expect((await client.call('GET', '/bridge/v1/credentials')).status).toBe(403)
  }
  expect((await caller(undefined)('GET', '/bridge/v1/credentials')).status).toBe(401)
})

/** D1 with a counter of the rows read. */
function countingReads() {
  const reads = { count: 0 }
  const add = ({ meta }: D1Result) => {
    reads.count += meta.rows_read
  }
  const counting = (statement: D1PreparedStatement): D1PreparedStatement =>
    new Proxy(statement, {
      get: (target, name) =>
        name === 'bind'
          ? (...values: unknown[]) => counting(target.bind(...values))
          : async () => {
              const result = await target.all()
              add(result)
              return result
            },
    })
  const db = {
    prepare: (sql: string) => counting(env.DB.prepare(sql)),
    batch: async (batch: D1PreparedStatement[]) => Promise.all(batch.map((statement) => statement.all())),
  }
  return { reads, db: db as unknown as D1Database }
}

it('the credentials feed reads few rows if nothing changed, however many devices there are', async () => {
  await importTokens(Array.from({ length: 3_000 }, (_, at) => `idle-${at}`))
  const { id } = (await env.DB.prepare('SELECT id FROM api_keys WHERE tenant_id = ? AND bridge IS NOT NULL')
    .bind(tenant.tenantId)
    .first<{ id: string }>())!
  const principal = {
    keyId: id,
    keyName: '',
    role: 'bridge' as const,
    tenantId: tenant.tenantId,
    bridge: 'default',
  }
  const { reads, db } = countingReads()
  let page = await readCredentials(db, principal, undefined, MAX_FEED_ITEMS)
  const firstPage = reads.count
  while (page.more) page = await readCredentials(db, principal, page.cursor, MAX_FEED_ITEMS)
  reads.count = 0
  expect(await readCredentials(db, principal, page.cursor, MAX_FEED_ITEMS)).toMatchObject({ items: [] })
  expect(reads.count).toBeLessThan(15)
  expect(firstPage).toBeLessThan(7 * MAX_FEED_ITEMS)
})

// This test stays last: it removes the triggers.
it('the credentials feed costs 2 rows written for a new device, and none for an update that changes nothing', async () => {
  const insert = (token: string) =>
    rowsOf(
      `INSERT INTO devices (id, tenant_id, product_id, number, access_token, created_at) VALUES (?, ?, ?, ?1, ?, 0)`,
      newId('dev'),
      tenant.tenantId,
      productId,
      token,
    )
  await insert('cost-0')
  const inserted = (await insert('cost-1')).rows_written
  await env.DB.prepare('DROP TRIGGER devices_credential_insert').run()
  expect(inserted - (await insert('cost-2')).rows_written).toBe(2)
  const unchanged = await rowsOf(
    `UPDATE devices SET enabled = enabled, number = number WHERE access_token = 'cost-1'`,
  )
  await env.DB.prepare('DROP TRIGGER devices_credential_update').run()
  const without = await rowsOf(
    `UPDATE devices SET enabled = enabled, number = number WHERE access_token = 'cost-1'`,
  )
  expect(unchanged.rows_written).toBe(without.rows_written)
})
