import { expect, it } from 'vitest'
import { caller } from '../api.ts'

const LIMIT = 1200

it('the device API limits the requests of one address, and of no other', async () => {
  const stranger = caller('no-such-token')
  const from = (address: string) =>
    stranger('GET', '/device/v1/upgrade', undefined, { 'cf-connecting-ip': address })
  // The rate limit's window may turn over once in between.
  for (let count = 0; count < 2 * LIMIT; count++) {
    if ((await from(`2001:db8::${(count % 9) + 1}`)).status === 429) break
  }
  const refused = await from('2001:db8:0:0:ffff::1')
  expect(refused).toMatchObject({ status: 429, body: { code: 'rate.limited' } })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await from('2001:db8:0:2::1')).status).toBe(401)
})
