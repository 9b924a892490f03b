import { beforeEach, expect, it } from 'vitest'
import { credentialKey } from '../../../src/protocol/credentials-feed.ts'
import { type Client, makeClient, makeTenant } from '../api.ts'

// Device numbers as topics of a shared bridge: the first holder keeps its topic, whatever another tenant does.

type Tenant = Client & { tenantId: string }

let name = ''
let shared: Client
let first: Tenant
let second: Tenant
let count = 0

/** A tenant with a product on the shared bridge of this test. */
const newProduct = async (owner: Tenant, bridge = name): Promise<string> =>
  (await owner.call('POST', '/api/v1/products', { name: 'p', bridge })).body.id
const create = (owner: Tenant, productId: string, number: string) =>
  owner.call('POST', '/api/v1/devices', { productId, number })
const listens = async (token: string, number: string, by: Client = shared) => {
  const topic = `ota/devices/inform/${number}`
  const { body } = await by.call('POST', '/broker/v1/acl', { username: token, topic, action: 'subscribe' })
  return body.result === 'allow'
}
/** The number that the bridge's feed of credentials has for this device. */
async function numberInFeed(token: string, by: Client = shared): Promise<string | null | undefined> {
  const { body } = await by.call('GET', '/bridge/v1/credentials')
  const key = credentialKey(body.salt, token)
  return body.items.find((item: { key: string }) => item.key === key)?.number
}
const bridgeKeyOf = async (owner: Tenant, bridge = name) => {
  const made = await owner.call('POST', '/api/v1/keys', { name: 'b', role: 'bridge', bridge })
  return made.body.id as string
}

beforeEach(async () => {
  name = `shared-${++count}`
  shared = await makeClient('bridge', null, name)
  ;[first, second] = [await makeTenant(), await makeTenant()]
})

it("on a shared bridge the number of another tenant's device is a 409, and the first keeps its topic", async () => {
  const holder = await create(first, await newProduct(first), 'SN-1')
  expect(holder.status).toBe(201)
  const productId = await newProduct(second)
  expect((await create(second, productId, 'SN-1')).body).toMatchObject({
    status: 409,
    code: 'device.topic_taken',
  })
  // A number that cannot be a topic shuts nobody out.
  expect((await create(first, await newProduct(first), 'a b')).status).toBe(201)
  expect((await create(second, productId, 'a b')).status).toBe(201)
  expect((await create(second, productId, 'SN-2')).status).toBe(201)
  expect(await listens(holder.body.accessToken, 'SN-1')).toBe(true)
  expect(await numberInFeed(holder.body.accessToken)).toBe('SN-1')
})

it('of two that are created at once one has the topic', async () => {
  const products = await Promise.all([newProduct(first), newProduct(second)])
  const made = await Promise.all([
    create(first, products[0]!, 'AT-ONCE'),
    create(second, products[1]!, 'AT-ONCE'),
  ])
  expect(made.map(({ status }) => status).toSorted()).toEqual([201, 409])
})

it('an import rejects the lines whose topics another tenant has, also as a trial', async () => {
  await create(first, await newProduct(first), 'SN-1')
  const productId = await newProduct(second)
  const csv = 'number\nSN-0\nSN-1\nSN-2\n'
  const answer = { created: 2, rejectedCount: 1, rejected: [{ line: 3 }] }
  for (const trial of ['true', 'false', 'false']) {
    const path = `/api/v1/devices/import?productId=${productId}&trial=${trial}`
    const { status, body } = await second.call('POST', path, csv, { 'content-type': 'text/csv' })
    expect(status).toBe(200)
    expect(body.rejected).toMatchObject(answer.rejected)
    expect(body.rejected[0].reason).toMatch(/^number: another device of the shared bridge/)
  }
})

it('a device or product does not move to the shared bridge while another tenant has a topic of it there', async () => {
  await create(first, await newProduct(first), 'SN-1')
  const elsewhere = await newProduct(second, 'elsewhere')
  const device = (await create(second, elsewhere, 'SN-1')).body
  const onShared = await newProduct(second)
  const moved = await second.call('PATCH', `/api/v1/devices/${device.id}`, { productId: onShared })
  expect(moved.body).toMatchObject({ status: 409, code: 'device.topic_taken' })
  const path = `/api/v1/products/${elsewhere}`
  expect((await second.call('PATCH', path, { bridge: name, name: 'renamed' })).body).toMatchObject({
    status: 409,
    code: 'product.topics_taken',
  })
  expect((await second.call('GET', path)).body).toMatchObject({ bridge: 'elsewhere', name: 'p' })
  await second.call('DELETE', `/api/v1/devices/${device.id}`)
  expect((await second.call('PATCH', path, { bridge: name })).body.bridge).toBe(name)
  expect((await second.call('PATCH', '/api/v1/products/prd_none', { bridge: name })).status).toBe(404)
})

it("a tenant that comes to the shared bridge when its own bridge's key is revoked takes no topic from those there", async () => {
  // The older device, made in good time, under a bridge of its own.
  const productId = await newProduct(second)
  const keyId = await bridgeKeyOf(second)
  const intruder = await create(second, productId, 'SN-1')
  expect(intruder.status).toBe(201)
  const holder = (await create(first, await newProduct(first), 'SN-1')).body
  expect(await listens(holder.accessToken, 'SN-1')).toBe(true)
  await second.call('DELETE', `/api/v1/keys/${keyId}`)
  expect(await listens(holder.accessToken, 'SN-1')).toBe(true)
  expect(await listens(intruder.body.accessToken, 'SN-1')).toBe(false)
  expect(await numberInFeed(holder.accessToken)).toBe('SN-1')
  expect(await numberInFeed(intruder.body.accessToken)).toBeNull()
  // It still has the topic of its token.
  const topic = `ota/device/inform/${intruder.body.accessToken}`
  const question = { username: intruder.body.accessToken, topic, action: 'subscribe' }
  expect((await shared.call('POST', '/broker/v1/acl', question)).body.result).toBe('allow')
})

it('a number falls to the next device of the bridge when its holder is deleted or moves, and the feed says so', async () => {
  const [one, two] = [await newProduct(first), await newProduct(first)]
  const away = await newProduct(first, 'elsewhere')
  for (const leave of ['DELETE', 'PATCH'] as const) {
    const number = `SN-${leave}`
    const holder = (await create(first, one, number)).body
    const next = (await create(first, two, number)).body
    expect([await listens(holder.accessToken, number), await listens(next.accessToken, number)]).toEqual([
      true,
      false,
    ])
    const { body } = await shared.call('GET', '/bridge/v1/credentials')
    await first.call(
      leave,
      `/api/v1/devices/${holder.id}`,
      leave === 'PATCH' ? { productId: away } : undefined,
    )
    expect(await listens(next.accessToken, number)).toBe(true)
    const more = await shared.call('GET', `/bridge/v1/credentials?after=${body.cursor}`)
    expect(more.body).toMatchObject({ reset: false })
    const key = credentialKey(body.salt, next.accessToken)
    expect(more.body.items).toContainEqual({ key, passwordHash: null, number, state: 'enabled' })
  }
})

it("a tenant's own older device that moves to a bridge has the number as its topic there, and the feed says so", async () => {
  const away = await newProduct(first, 'elsewhere')
  const mover = (await create(first, away, 'SN-1')).body
  const holder = (await create(first, await newProduct(first), 'SN-1')).body
  const target = await newProduct(first)
  expect(await listens(holder.accessToken, 'SN-1')).toBe(true)
  const { body } = await shared.call('GET', '/bridge/v1/credentials')
  await first.call('PATCH', `/api/v1/devices/${mover.id}`, { productId: target })
  expect(await listens(mover.accessToken, 'SN-1')).toBe(true)
  expect(await listens(holder.accessToken, 'SN-1')).toBe(false)
  const more = await shared.call('GET', `/bridge/v1/credentials?after=${body.cursor}`)
  const numbers = [mover, holder].map(({ accessToken }) => {
    const key = credentialKey(body.salt, accessToken)
    return more.body.items.find((item: { key: string }) => item.key === key)?.number
  })
  expect(numbers).toEqual(['SN-1', null])
})

it('without a shared bridge, tenants may use the same numbers', async () => {
  const unused = `unused-${count}`
  expect((await create(first, await newProduct(first, unused), '1')).status).toBe(201)
  expect((await create(second, await newProduct(second, unused), '1')).status).toBe(201)
})

it('what devices of two tenants had before stays, and the first has the topic', async () => {
  const unused = `late-${count}`
  const holder = (await create(first, await newProduct(first, unused), 'SN-1')).body
  const other = (await create(second, await newProduct(second, unused), 'SN-1')).body
  const late = await makeClient('bridge', null, unused)
  expect(await listens(holder.accessToken, 'SN-1', late)).toBe(true)
  expect(await listens(other.accessToken, 'SN-1', late)).toBe(false)
  expect(await numberInFeed(other.accessToken, late)).toBeNull()
  expect((await second.call('PATCH', `/api/v1/devices/${other.id}`, { name: 'changed' })).status).toBe(200)
})

it('no topic of the shared bridge is taken while its key is being changed', async () => {
  const root = await makeClient('root', null)
  const made = await root.call('POST', '/api/v1/keys', {
    name: 'b',
    role: 'bridge',
    bridge: `rotated-${name}`,
  })
  const productId = await newProduct(second, `elsewhere-${name}`)
  expect((await create(second, productId, 'SN-1')).status).toBe(201)
  expect((await create(first, await newProduct(first, `rotated-${name}`), 'SN-1')).status).toBe(201)
  const move = () => second.call('PATCH', `/api/v1/products/${productId}`, { bridge: `rotated-${name}` })
  expect((await move()).status).toBe(409)
  await root.call('DELETE', `/api/v1/keys/${made.body.id}`)
  expect((await move()).status).toBe(409)
})
