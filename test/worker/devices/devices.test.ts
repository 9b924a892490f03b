import { env } from 'cloudflare:workers'
import { beforeAll, expect, it } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import { type Client, makeClient, makeTenant } from '../api.ts'

let admin: Client & { tenantId: string }
let viewer: Client
let productId: string

const newProduct = async (name = 'p'): Promise<string> =>
  (await admin.call('POST', '/api/v1/products', { name })).body.id
const newDevice = (body: object) => admin.call('POST', '/api/v1/devices', { productId, ...body })

beforeAll(async () => {
  admin = await makeTenant()
  viewer = await makeClient('viewer', admin.tenantId)
  productId = await newProduct()
})

it('a new device gets a token, or keeps the one that it is given', async () => {
  const made = await newDevice({ number: 'own-token', name: 'Hall', tags: ['a', 'b', 'a'] })
  expect(made.status).toBe(201)
  expect(made.body).toEqual({
    id: expect.stringMatching(/^dev_/),
    productId,
    number: 'own-token',
    name: 'Hall',
    tags: ['a', 'b'],
    enabled: true,
    modules: [],
    lastSeenAt: null,
    online: null,
    createdAt: expect.any(String),
    accessToken: expect.stringMatching(/^[A-Za-z0-9_-]{32,64}$/),
  })
  expect((await admin.call('GET', `/api/v1/devices/${made.body.id}`)).body).toEqual(made.body)
  const given = await newDevice({ number: 'given-token', accessToken: 'A1_TEST_TOKEN_LONG' })
  expect(given.body.accessToken).toBe('A1_TEST_TOKEN_LONG')
})

it("a device's token is never shown to a viewer or in a list, and a password is never shown to anyone", async () => {
  const { body: device } = await newDevice({ number: 'secret', accessToken: 'very-secret-token' })
  const basic = await newDevice({ number: 'basic', credentials: { username: 'usr', password: 'pass-w0rd' } })
  expect(basic.body.username).toBe('usr')
  expect(basic.body).not.toHaveProperty('accessToken')
  const answers = [
    await viewer.call('GET', `/api/v1/devices/${device.id}`),
    await viewer.call('GET', '/api/v1/devices?limit=200'),
    await admin.call('GET', '/api/v1/devices?limit=200'),
  ]
  for (const { status, body } of answers) {
    expect(status).toBe(200)
    expect(JSON.stringify(body)).not.toMatch(/very-secret-token|accessToken/)
  }
  const shown = await admin.call('GET', `/api/v1/devices/${basic.body.id}`)
  expect(JSON.stringify([basic.body, shown.body])).not.toMatch(/pass-w0rd|pbkdf2/)
})

it('a number is unique in its product, and credentials in the whole installation', async () => {
  const other = await makeTenant()
  const { body: theirs } = await other.call('POST', '/api/v1/products', { name: 'p' })
  await newDevice({ number: 'unique', accessToken: 'unique-token-0001' })
  expect((await newDevice({ number: 'unique' })).body).toMatchObject({
    status: 409,
    code: 'device.number_taken',
  })
  const taken = { status: 409, code: 'device.credential_taken' }
  expect((await newDevice({ number: 'u2', accessToken: 'unique-token-0001' })).body).toMatchObject(taken)
  const username = { credentials: { username: 'unique-token-0001', password: 'x' } }
  expect((await newDevice({ number: 'u3', ...username })).body).toMatchObject(taken)
  const elsewhere = { productId: theirs.id, number: 'unique' }
  expect((await other.call('POST', '/api/v1/devices', elsewhere)).status).toBe(201)
  const copied = { productId: theirs.id, number: 'u4', accessToken: 'unique-token-0001' }
  expect((await other.call('POST', '/api/v1/devices', copied)).body).toMatchObject(taken)
  const foreign = { productId, number: 'u5' }
  expect((await other.call('POST', '/api/v1/devices', foreign)).body.code).toBe('product.not_found')
})

it.each([
  ['no number', {}, 'number'],
  ['a number of 65 characters', { number: 'x'.repeat(65) }, 'number'],
  ['a number with a control character', { number: 'a\u0000b' }, 'number'],
  ['a token that is no topic level', { number: 'n', accessToken: 'a/b' }, 'accessToken'],
  ['a token of 15 characters', { number: 'n', accessToken: 'x'.repeat(15) }, 'accessToken'],
  ['an empty token', { number: 'n', accessToken: '' }, 'accessToken'],
  [
    'a username that is no topic level',
    { number: 'n', credentials: { username: '+', password: 'x' } },
    'credentials.username',
  ],
  [
    'an empty password',
    { number: 'n', credentials: { username: 'u', password: '' } },
    'credentials.password',
  ],
  [
    'a token and Basic credentials',
    { number: 'n', accessToken: 'a-token-long-enough', credentials: { username: 'u', password: 'x' } },
    'credentials',
  ],
  ['21 tags', { number: 'n', tags: Array.from({ length: 21 }, (_, i) => `t${i}`) }, 'tags'],
  ['an empty tag', { number: 'n', tags: [''] }, 'tags.0'],
])('a device with %s is refused', async (_, body, path) => {
  expect((await newDevice(body)).body).toMatchObject({
    status: 422,
    code: 'request.invalid',
    errors: [{ path }],
  })
})

it('devices are found by their properties and by the versions that they run', async () => {
  const own = await newProduct('filters')
  const make = async (number: string, more: object = {}) =>
    (await newDevice({ productId: own, number, ...more })).body.id as string
  const a = await make('A-100%', { name: 'Kitchen', tags: ['beta'] })
  const b = await make('B_200', { name: 'kit', tags: ['beta', 'eu'] })
  const c = await make('C-300')
  const report = env.DB.prepare(
    'INSERT INTO device_modules (device_id, module, version, reported_at) VALUES (?, ?, ?, 1700000000000)',
  )
  await env.DB.batch([
    report.bind(a, 'default', 'v1'),
    report.bind(b, 'default', 'v2'),
    report.bind(b, 'MCU', 'v1'),
    env.DB.prepare('UPDATE devices SET online = 1 WHERE id = ?').bind(a),
    env.DB.prepare('UPDATE devices SET online = 0 WHERE id = ?').bind(b),
  ])
  const find = async (query: string) => {
    const { status, body } = await viewer.call('GET', `/api/v1/devices?productId=${own}&${query}`)
    return status === 200 ? body.items.map((item: { id: string }) => item.id).toSorted() : status
  }
  expect(await find('')).toEqual([a, b, c].toSorted())
  expect(await find('search=KIT')).toEqual([a, b].toSorted())
  expect(await find('search=%25')).toEqual([a])
  expect(await find('search=_')).toEqual([b])
  expect(await find(`search=${'x'.repeat(100)}`)).toEqual([])
  expect(await find('tag=eu')).toEqual([b])
  expect(await find('tag=e')).toEqual([])
  expect(await find('version=v1')).toEqual([a, b].toSorted())
  expect(await find('version=v1&module=MCU')).toEqual([b])
  expect(await find('version=v2&module=MCU')).toEqual([])
  expect(await find('module=MCU')).toEqual([b])
  expect(await find('online=true')).toEqual([a])
  expect(await find('online=false')).toEqual([b])
  expect(await find('online=maybe')).toBe(422)
  const { body } = await viewer.call('GET', `/api/v1/devices/${b}`)
  expect(body).toMatchObject({
    online: false,
    modules: [
      { module: 'MCU', version: 'v1', reportedAt: '2023-11-14T22:13:20.000Z' },
      { module: 'default', version: 'v2' },
    ],
  })
})

it('a device can be changed, and null clears its name', async () => {
  const { body } = await newDevice({ number: 'change-me', name: 'old', tags: ['x'] })
  const path = `/api/v1/devices/${body.id}`
  const changed = await admin.call('PATCH', path, { name: null, tags: [], enabled: false })
  expect(changed.body).toEqual({ ...body, name: null, tags: [], enabled: false })
  expect((await admin.call('PATCH', path, { enabled: true })).body.enabled).toBe(true)
  expect((await admin.call('PATCH', path, {})).status).toBe(200)
  expect((await admin.call('PATCH', path, { number: 'other' })).status).toBe(422)
  expect((await viewer.call('PATCH', path, {})).status).toBe(403)
})

it('a device can move to another product of its tenant if its number is free there', async () => {
  const [target, other] = [await newProduct('target'), await makeTenant()]
  const { body } = await newDevice({ number: 'mover' })
  const move = (productId: string) =>
    admin.call('PATCH', `/api/v1/devices/${body.id}`, { productId, name: 'n' })
  const { body: theirs } = await other.call('POST', '/api/v1/products', { name: 'p' })
  expect((await move(theirs.id)).body.code).toBe('product.not_found')
  const { body: holder } = await newDevice({ productId: target, number: 'mover' })
  expect((await move(target)).body).toMatchObject({ status: 409, code: 'device.number_taken' })
  expect((await admin.call('GET', `/api/v1/devices/${body.id}`)).body.name).toBeNull()
  await admin.call('DELETE', `/api/v1/devices/${holder.id}`)
  expect((await move(target)).body).toMatchObject({ productId: target, name: 'n' })
  expect((await move(target)).status).toBe(200)
})

it('a device cannot move to another product while an upgrade is active', async () => {
  const target = await newProduct('target')
  const { body } = await newDevice({ number: 'busy' })
  await insertUpgrade(body.id, 'tsk_none', 1)
  const moved = await admin.call('PATCH', `/api/v1/devices/${body.id}`, { productId: target })
  expect(moved.body).toMatchObject({ status: 409, code: 'device.busy' })
})

it('a device is deleted with all its rows in D1', async () => {
  const { body } = await newDevice({ number: 'gone' })
  await env.DB.batch([
    env.DB.prepare(
      "INSERT INTO device_modules (device_id, module, version, reported_at) VALUES (?, 'default', 'v1', 0)",
    ).bind(body.id),
    env.DB.prepare("INSERT INTO rejections VALUES (?, ?, 1, 0, '[]')").bind(body.id, admin.tenantId),
  ])
  expect((await admin.call('DELETE', `/api/v1/devices/${body.id}`)).status).toBe(204)
  expect((await admin.call('DELETE', `/api/v1/devices/${body.id}`)).body.code).toBe('device.not_found')
  const left = await env.DB.prepare(
    'SELECT (SELECT count(*) FROM device_modules WHERE device_id = ?1) + (SELECT count(*) FROM rejections WHERE device_id = ?1) AS n',
  )
    .bind(body.id)
    .first('n')
  expect(left).toBe(0)
})

it('a token can be rotated, but not the password of Basic credentials', async () => {
  const { body } = await newDevice({ number: 'rotate' })
  const rotated = await admin.call('POST', `/api/v1/devices/${body.id}/rotate-token`)
  expect(rotated.status).toBe(200)
  expect(rotated.body.accessToken).not.toBe(body.accessToken)
  const shown = await admin.call('GET', `/api/v1/devices/${body.id}`)
  expect(shown.body.accessToken).toBe(rotated.body.accessToken)
  const basic = await newDevice({ number: 'rotate-2', credentials: { username: 'rotate', password: 'x' } })
  const refused = await admin.call('POST', `/api/v1/devices/${basic.body.id}/rotate-token`)
  expect(refused.body).toMatchObject({ status: 409, code: 'device.has_credentials' })
})

it("another tenant's device returns 404 for every call", async () => {
  const other = await makeTenant()
  const { body } = await newDevice({ number: 'ours' })
  const path = `/api/v1/devices/${body.id}`
  const calls: [string, string, object?][] = [
    ['GET', path],
    ['PATCH', path, { enabled: false }],
    ['DELETE', path],
    ['POST', `${path}/rotate-token`],
    ['GET', `${path}/upgrades`],
    ['GET', `${path}/rejections`],
  ]
  for (const [method, at, sent] of calls) {
    expect((await other.call(method, at, sent)).body, `${method} ${at}`).toMatchObject({
      status: 404,
      code: 'device.not_found',
    })
  }
  expect((await admin.call('GET', path)).body).toEqual(body)
  expect((await other.call('GET', `/api/v1/devices?productId=${productId}`)).body.items).toEqual([])
})

it("a device's upgrades are listed with the active ones first, then those that ended", async () => {
  const { body } = await newDevice({ number: 'history' })
  const [older, newer, active] = [
    await insertTask('older'),
    await insertTask('newer'),
    await insertTask('now'),
  ]
  const outcome = env.DB.prepare(
    `INSERT INTO outcomes (device_id, task_id, tenant_id, module, from_version, target_version, status, description,
       rolled_back, attempt, finished_at)
     VALUES (?1, ?2, ?3, 'default', 'v0', 'v1', ?4, ?5, 0, 1, 1700000000000)`,
  )
  await env.DB.batch([
    outcome.bind(body.id, older, admin.tenantId, 'success', null),
    outcome.bind(body.id, newer, admin.tenantId, 'failure', 'timed out'),
    // This device was retried: its stored outcome is that of the attempt before.
    outcome.bind(body.id, active, admin.tenantId, 'failure', 'timed out'),
    env.DB.prepare(
      "INSERT INTO device_modules (device_id, module, version, reported_at) VALUES (?, 'default', 'v1', 0)",
    ).bind(body.id),
  ])
  await insertUpgrade(body.id, active, 1)
  const path = `/api/v1/devices/${body.id}/upgrades`
  const first = await viewer.call('GET', `${path}?limit=1`)
  expect(first.body.items).toEqual([
    {
      taskId: active,
      taskName: 'now',
      module: 'default',
      fromVersion: 'v1',
      targetVersion: 'v2',
      status: 'active',
      description: null,
      because: null,
      rolledBack: false,
      attempt: null,
      finishedAt: null,
    },
    {
      taskId: newer,
      taskName: 'newer',
      module: 'default',
      fromVersion: 'v0',
      targetVersion: 'v1',
      status: 'failure',
      description: 'timed out',
      because: null,
      rolledBack: false,
      attempt: 1,
      finishedAt: '2023-11-14T22:13:20.000Z',
    },
  ])
  const second = await viewer.call('GET', `${path}?limit=1&cursor=${first.body.nextCursor}`)
  expect(second.body).toMatchObject({ items: [{ taskId: older, status: 'success' }], nextCursor: null })
})

it("a device's unreadable messages are shown newest first", async () => {
  const { body } = await newDevice({ number: 'rejected' })
  const path = `/api/v1/devices/${body.id}/rejections`
  expect((await viewer.call('GET', path)).body).toEqual({ total: 0, items: [] })
  const item = { topic: 'ota/device/inform', payload: '{', reason: 'not JSON' }
  const items = JSON.stringify([
    { at: 1_700_000_000_000, ...item },
    { at: 1_700_000_001_000, ...item },
  ])
  await env.DB.prepare('INSERT INTO rejections VALUES (?, ?, 7, 0, ?)')
    .bind(body.id, admin.tenantId, items)
    .run()
  expect((await viewer.call('GET', path)).body).toEqual({
    total: 7,
    items: [
      { at: '2023-11-14T22:13:21.000Z', ...item },
      { at: '2023-11-14T22:13:20.000Z', ...item },
    ],
  })
})

const insertUpgrade = (deviceId: string, taskId: string, active: number) =>
  env.DB.prepare(
    `INSERT INTO upgrades (device_id, module, tenant_id, task_id, rank, active, target_version, last_notice_id)
     VALUES (?, 'default', ?, ?, '1', ?, 'v2', 1)`,
  )
    .bind(deviceId, admin.tenantId, taskId, active)
    .run()

async function insertTask(name: string): Promise<string> {
  const id = newId('tsk')
  await env.DB.prepare(
    `INSERT INTO tasks (id, tenant_id, product_id, package_ids, module, target_version, name, selection, policy,
       status, start_at, rank, counts, created_at)
     VALUES (?, ?, ?, '[]', 'default', 'v1', ?, '{"all":true}', '{}', 'running', 0, '1', '{}', 0)`,
  )
    .bind(id, admin.tenantId, productId, name)
    .run()
  return id
}
