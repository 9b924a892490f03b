import { env } from 'cloudflare:workers'
import { beforeAll, expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { limitKey } from '../../../src/protocol/address.ts'
import { type Client, makeClient, makeTenant } from '../api.ts'
import { withoutTable } from '../without-table.ts'

const PEER_LIMIT = 1_000

let bridge: Client
let other: Client
const ask = async (asked: Client, question: object = {}) =>
  asked.call('POST', '/broker/v1/auth', { username: 'device-1-of-these', ...question })
const result = async (asked: Client, question: object = {}) => (await ask(asked, question)).body.result

beforeAll(async () => {
  const tenant = await makeTenant()
  bridge = await makeClient('bridge', tenant.tenantId, 'default')
  other = await makeClient('bridge', tenant.tenantId, 'default')
  const product = await tenant.call('POST', '/api/v1/products', { name: 'p' })
  const device = { productId: product.body.id, number: '1', accessToken: 'device-1-of-these' }
  await tenant.call('POST', '/api/v1/devices', device)
})

it('an address that asks too often is denied with 200, and no other address, bridge or username is', async () => {
  // The rate limit's window may turn over once in between.
  for (let count = 0; count < 2 * PEER_LIMIT; count++) {
    const username = count % 2 ? 'device-1-of-these' : `stranger-${count}`
    const answer = await result(bridge, { username, peerhost: `2001:db8::${(count % 9) + 1}` })
    if (username === 'device-1-of-these' && answer === 'deny') break
  }
  const refused = await ask(bridge, { peerhost: '2001:db8:0:0:ffff::1' })
  expect([refused.status, refused.body]).toEqual([200, { result: 'deny' }])
  const subscribe = {
    username: 'device-1-of-these',
    topic: 'ota/device/inform/device-1-of-these',
    action: 'subscribe',
  }
  const acl = await bridge.call('POST', '/broker/v1/acl', { ...subscribe, peerhost: '2001:DB8::7' })
  expect([acl.status, acl.body]).toEqual([200, { result: 'deny' }])
  expect(await result(bridge, { peerhost: '2001:db8:0:1::1' })).toBe('allow')
  expect(await result(bridge)).toBe('allow')
  expect(await result(other, { peerhost: '2001:db8::1' })).toBe('allow')
})

it('a bridge that asks too often is denied with 200, and no other bridge is', async () => {
  // The limit here is 1,000 instead of 60,000, so that the test is short.
  const limited = { ...env, BROKER_LIMIT: env.BROKER_PEER_LIMIT }
  const askLimited = async (asked: Client) => {
    const request = new Request('http://edge-ota.test/broker/v1/auth', {
      method: 'POST',
      headers: { authorization: `Bearer ${asked.key}` },
      body: JSON.stringify({ username: 'device-1-of-these' }),
    })
    const response = await app.fetch(request, limited)
    return [response.status, await response.json()]
  }
  for (let count = 0; count < 2 * PEER_LIMIT; count++) {
    const [, answer] = await askLimited(bridge)
    if ((answer as { result: string }).result === 'deny') break
  }
  expect(await askLimited(bridge)).toEqual([200, { result: 'deny' }])
  expect(await askLimited(other)).toEqual([200, { result: 'allow' }])
})

it('a request that the broker endpoints cannot read is denied with 200', async () => {
  const bodies = [
    '',
    'no JSON',
    '[]',
    'null',
    '{}',
    '{"username":7}',
    '{"username":"a/b"}',
    `{"username":"${'x'.repeat(10_240)}"}`,
    '{"username":"a\\u0000b"}',
    '{"username":"device-1-of-these","password":{}}',
    ' '.repeat(200 * 1024),
  ]
  for (const path of ['/broker/v1/auth', '/broker/v1/acl']) {
    for (const body of bodies) {
      for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded']) {
        const { status, body: answer } = await bridge.call('POST', path, body, { 'content-type': type })
        expect([status, answer]).toEqual([200, { result: 'deny' }])
      }
    }
  }
  expect(await result(bridge, { peerhost: 7, clientid: [] })).toBe('allow')
})

it('the broker endpoints answer a failure of their own with a denial, since brokers take any other answer as no opinion', async () => {
  const { status, body } = await withoutTable('api_keys', () => ask(bridge))
  expect([status, body]).toEqual([200, { result: 'deny' }])
  expect(await result(bridge)).toBe('allow')
})

it('an address counts as one in all its spellings, and an IPv6 /64 network counts as one address', () => {
  expect(limitKey('::ffff:192.0.2.1')).toBe(limitKey('192.0.2.1'))
  expect(limitKey('::ffff:192.0.2.1')).not.toBe(limitKey('::ffff:192.0.2.2'))
  expect(limitKey('2001:0DB8::1')).toBe(limitKey('2001:db8:0:0:1:2:3:4'))
  expect(limitKey('2001:db8::1')).not.toBe(limitKey('2001:db8:0:1::1'))
  expect(limitKey('fe80::1%eth0')).toBe(limitKey('fe80::2%eth0'))
  expect(limitKey('x'.repeat(1_000))).toHaveLength(64)
})
