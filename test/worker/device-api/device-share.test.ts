import { env } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { type Client, caller, makeTenant } from '../api.ts'
import { makeLab } from '../lab.ts'

/** In place of 600, so that the test is short. */
const LIMIT = 60

it('one device says only so much over HTTPS, and others behind its address are served', async () => {
  const lab = await makeLab(2)
  const [noisy, honest] = lab.devices as [(typeof lab.devices)[0], (typeof lab.devices)[0]]
  const limited = { ...env, DEVICE_SHARE_LIMIT: env.WRONG_LINK_LIMIT }
  const inform = async (token: string, module: string) => {
    const request = new Request('http://edge-ota.test/device/v1/inform', {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'cf-connecting-ip': '192.0.2.50' },
      body: JSON.stringify({ params: { version: 'v1', module } }),
    })
    return app.fetch(request, limited)
  }
  let refused: Response | undefined
  // The rate limit's window may turn over once in between.
  for (let count = 0; count < 2 * LIMIT && refused?.status !== 429; count++) {
    refused = await inform(noisy.token, `invented-${count}`)
  }
  expect(refused?.status).toBe(429)
  expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await inform(honest.token, 'default')).status).toBe(200)
  const { body } = await lab.admin.call('GET', `/api/v1/devices/${noisy.id}`)
  expect(body.modules.length).toBeLessThanOrEqual(32)
})

async function withPassword(tenant: Client, productId: string, username: string, password: string) {
  const device = { productId, number: username, credentials: { username, password } }
  expect((await tenant.call('POST', '/api/v1/devices', device)).status).toBe(201)
}

it('guesses of a password are soon refused unverified; other addresses and devices are not concerned', async () => {
  const tenant = await makeTenant()
  const { body: product } = await tenant.call('POST', '/api/v1/products', { name: 'p' })
  await withPassword(tenant, product.id, 'guessed-https', 'right')
  await withPassword(tenant, product.id, 'neighbour-https', 'its own')
  const ask = async (username: string, password: string, address: string) =>
    (
      await caller(undefined)('GET', '/device/v1/upgrade', undefined, {
        authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`,
        'cf-connecting-ip': address,
      })
    ).status
  const statuses = new Map<number, number>()
  for (let n = 0; n < 100; n++) {
    const status = await ask('guessed-https', `guess ${n}`, '192.0.2.1')
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  expect(statuses.get(401)).toBeLessThan(25)
  expect(statuses.get(429)).toBeGreaterThan(75)
  expect(await ask('guessed-https', 'right', '192.0.2.2')).toBe(200)
  expect(await ask('neighbour-https', 'its own', '192.0.2.1')).toBe(200)
  for (let n = 0; n < 50; n++) expect(await ask('neighbour-https', 'its own', '192.0.2.1')).toBe(200)
})
