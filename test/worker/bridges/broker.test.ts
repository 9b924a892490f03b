import { env } from 'cloudflare:workers'
import { beforeAll, expect, it } from 'vitest'
import { UPLINK_TOPIC_NAMES } from '../../../src/protocol/device.ts'
import { type Client, caller, makeClient, makeTenant } from '../api.ts'

type Tenant = Client & { tenantId: string }

let tenant: Tenant
let bridge: Client
let productId: string
let count = 0

const makeProduct = async (owner: Client, name = 'default'): Promise<string> =>
  (await owner.call('POST', '/api/v1/products', { name, bridge: name })).body.id
const makeDevice = async (body: object = {}, owner: Client = tenant, product = productId) => {
  count += 1
  const device = {
    productId: product,
    number: `N-${count}`,
    accessToken: `token-of-device-${count}`,
    ...body,
  }
  return (await owner.call('POST', '/api/v1/devices', device)).body
}
const auth = async (body: unknown, asked: Client = bridge) =>
  (await asked.call('POST', '/broker/v1/auth', body)).body.result
const acl = async (body: object, asked: Client = bridge) =>
  (await asked.call('POST', '/broker/v1/acl', body)).body.result

beforeAll(async () => {
  tenant = await makeTenant()
  bridge = await makeClient('bridge', tenant.tenantId, 'default')
  productId = await makeProduct(tenant)
})

it('a device with a token connects with the token alone', async () => {
  await makeDevice({ accessToken: 'alone-----------' })
  expect(await auth({ username: 'alone-----------' })).toBe('allow')
  expect(await auth({ username: 'alone-----------', password: '' })).toBe('allow')
  expect(await auth({ username: 'alone-----------', password: null, clientid: 'c', peerhost: '::1' })).toBe(
    'allow',
  )
  expect(await auth({ username: 'alone-----------', password: 'x' })).toBe('deny')
  expect(await auth({ username: 'Alone-----------' })).toBe('deny')
})

it('a device with Basic credentials connects only with both username and password', async () => {
  await makeDevice({ accessToken: undefined, credentials: { username: 'basic', password: 'right' } })
  expect(await auth({ username: 'basic', password: 'right' })).toBe('allow')
  expect(await auth({ username: 'basic', password: 'wrong' })).toBe('deny')
  expect(await auth({ username: 'basic', password: '' })).toBe('deny')
  expect(await auth({ username: 'basic' })).toBe('deny')
})

it('a device that is disabled, was deleted or has a newer token is refused', async () => {
  const device = await makeDevice({ accessToken: 'changes---------' })
  const path = `/api/v1/devices/${device.id}`
  await tenant.call('PATCH', path, { enabled: false })
  expect(await auth({ username: 'changes---------' })).toBe('deny')
  expect(await acl({ username: 'changes---------', topic: 'ota/device/inform', action: 'publish' })).toBe(
    'deny',
  )
  await tenant.call('PATCH', path, { enabled: true })
  expect(await auth({ username: 'changes---------' })).toBe('allow')
  const { body } = await tenant.call('POST', `${path}/rotate-token`)
  expect(await auth({ username: 'changes---------' })).toBe('deny')
  expect(await auth({ username: body.accessToken })).toBe('allow')
  await tenant.call('DELETE', path)
  expect(await auth({ username: body.accessToken })).toBe('deny')
})

it.each([
  ['nothing', undefined],
  ['no JSON', 'nonsense'],
  ['a list', []],
  ['null', 'null'],
  ['no username', { password: 'x' }],
  ['a username of another type', { username: 1 }],
  ['a username that is no topic level', { username: "a' OR 1=1" }],
  ['a large body', { username: 'a', more: 'x'.repeat(200_000) }],
])('the broker endpoints deny %s with 200', async (_, body) => {
  for (const path of ['/broker/v1/auth', '/broker/v1/acl']) {
    for (const headers of [{}, { 'content-type': 'text/plain' }, { 'content-type': 'application/json' }]) {
      const answer = await bridge.call('POST', path, body, headers as Record<string, string>)
      expect(answer).toMatchObject({ status: 200, body: { result: 'deny' } })
    }
  }
  expect((await caller(undefined)('POST', '/broker/v1/auth', body)).status).toBe(401)
})

it('a device may publish on the uplink topics and nowhere else', async () => {
  await makeDevice({ accessToken: 'publisher-------', number: 'P-1' })
  const publish = (topic: string) => acl({ username: 'publisher-------', topic, action: 'publish' })
  for (const topic of UPLINK_TOPIC_NAMES) expect(await publish(topic), topic).toBe('allow')
  for (const topic of [
    'ota/device/inform/publisher-------',
    'ota/device/inform/',
    'ota/device/#',
    '',
    'x',
    'OTA/device/inform',
  ]) {
    expect(await publish(topic), topic).toBe('deny')
  }
  expect(await acl({ username: 'nobody', topic: 'ota/device/inform', action: 'publish' })).toBe('deny')
  expect(await acl({ username: 'publisher-------', topic: 'ota/device/inform', action: 'all' })).toBe('deny')
})

it('a device may subscribe to its own downlink topics and to nothing else', async () => {
  await makeDevice({ accessToken: 'listener--------', number: 'L-1' })
  await makeDevice({ accessToken: 'neighbour-------', number: 'L-2' })
  const subscribe = (topic: string) => acl({ username: 'listener--------', topic, action: 'subscribe' })
  expect(await subscribe('ota/device/inform/listener--------')).toBe('allow')
  expect(await subscribe('ota/devices/inform/L-1')).toBe('allow')
  for (const topic of [
    'ota/device/inform/neighbour-------',
    'ota/devices/inform/L-2',
    'ota/devices/inform/listener--------',
    'ota/device/inform/L-1',
    'ota/device/inform/+',
    'ota/device/inform/#',
    '#',
    '+/+/+/+',
    '$share/g/ota/device/inform/listener--------',
    '$SYS/#',
    'ota/device/inform',
    'ota/device/progress',
  ]) {
    expect(await subscribe(topic), topic).toBe('deny')
  }
})

it('a number is the downlink topic of the first device of the bridge that has it', async () => {
  const second = await makeProduct(tenant)
  const elsewhere = await makeProduct(tenant, 'other')
  const subscribe = (username: string, number: string) =>
    acl({ username, topic: `ota/devices/inform/${number}`, action: 'subscribe' })
  await makeDevice({ accessToken: 'twin-1----------', number: 'TWIN' })
  await makeDevice({ accessToken: 'twin-3----------', number: 'TWIN' }, tenant, elsewhere)
  expect(await subscribe('twin-1----------', 'TWIN')).toBe('allow')
  const twin = await makeDevice({ accessToken: 'twin-2----------', number: 'TWIN' }, tenant, second)
  expect(await subscribe('twin-1----------', 'TWIN')).toBe('allow')
  expect(await subscribe('twin-2----------', 'TWIN')).toBe('deny')
  await tenant.call('DELETE', `/api/v1/devices/${twin.id}`)
  expect(await subscribe('twin-1----------', 'TWIN')).toBe('allow')
  await makeDevice({ accessToken: 'odd-------------', number: 'a b' })
  expect(await subscribe('odd-------------', 'a b')).toBe('deny')
})

it('a bridge serves the devices of its tenant and its name, and a shared bridge those of tenants without a bridge of their own', async () => {
  const [other, shared] = [await makeTenant(), await makeClient('bridge', null, 'default')]
  const theirs = await makeProduct(other)
  await makeDevice({ accessToken: 'theirs----------', number: 'S-1' }, other, theirs)
  await makeDevice({ accessToken: 'ours------------', number: 'S-1' })
  await makeDevice({ accessToken: 'eu--------------' }, tenant, await makeProduct(tenant, 'eu'))

  expect(await auth({ username: 'ours------------' })).toBe('allow')
  expect(await auth({ username: 'theirs----------' })).toBe('deny')
  expect(await auth({ username: 'eu--------------' })).toBe('deny')
  expect(await auth({ username: 'theirs----------' }, shared)).toBe('allow')
  expect(await auth({ username: 'ours------------' }, shared)).toBe('deny')
  const own = { username: 'theirs----------', topic: 'ota/devices/inform/S-1', action: 'subscribe' }
  expect(await acl(own, shared)).toBe('allow')

  // From here on the other tenant has a bridge of its own, until that bridge's key is revoked.
  const key = await other.call('POST', '/api/v1/keys', { name: 'b', role: 'bridge', bridge: 'default' })
  expect(await auth({ username: 'theirs----------' }, shared)).toBe('deny')
  expect(await auth({ username: 'theirs----------' }, { ...shared, call: caller(key.body.key) })).toBe(
    'allow',
  )
  await other.call('DELETE', `/api/v1/keys/${key.body.id}`)
  expect(await auth({ username: 'theirs----------' }, shared)).toBe('allow')
})

it('the broker endpoints deny if the database fails', async () => {
  await makeDevice({ accessToken: 'fails-----------' })
  await env.DB.prepare('ALTER TABLE products RENAME TO products_away').run()
  expect(await auth({ username: 'fails-----------' })).toBe('deny')
  await env.DB.prepare('ALTER TABLE products_away RENAME TO products').run()
  expect(await auth({ username: 'fails-----------' })).toBe('allow')
})
