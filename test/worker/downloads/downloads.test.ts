import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { createLinkCache, signDownload } from '../../../src/links/links.ts'

// test/e2e/downloads.test.ts follows the links themselves.

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5, 678)
const DAY_MS = 24 * 3600_000

it('a signed link says when it expires', async () => {
  const link = await signDownload(env, 'packages/ten_1/pkg_1/key', 3600, NOW)
  expect(link.expiresAt).toBe(Date.UTC(2026, 0, 2, 4, 4, 5))
  const url = new URL(link.url)
  expect(url.origin + url.pathname).toBe(`${env.R2_S3_ENDPOINT}/${env.R2_BUCKET}/packages/ten_1/pkg_1/key`)
  expect(Object.fromEntries(url.searchParams)).toMatchObject({
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${env.R2_ACCESS_KEY_ID}/20260102/auto/s3/aws4_request`,
    'X-Amz-Date': '20260102T030405Z',
    'X-Amz-Expires': '3600',
    'X-Amz-SignedHeaders': 'host',
    'X-Amz-Signature': expect.stringMatching(/^[0-9a-f]{64}$/),
  })
  expect(link.url).not.toContain(env.R2_SECRET_ACCESS_KEY)
})

it('a link is the same with and without a slash at the end of the endpoint', async () => {
  const config = { ...env, R2_S3_ENDPOINT: `${env.R2_S3_ENDPOINT}/` }
  expect(await signDownload(config, 'k', 60, NOW)).toEqual(await signDownload(env, 'k', 60, NOW))
})

it('a link is shared while nine tenths of its life are left', async () => {
  const link = createLinkCache()
  const ask = (now: number, key = 'k', ttl = 86_400) => link(env, key, ttl, now)
  const first = await ask(NOW)
  expect(await ask(first.expiresAt - 0.9 * DAY_MS)).toBe(first)
  expect(await ask(NOW, 'other')).not.toBe(first)
  expect(await ask(NOW, 'k', 3600)).not.toBe(first)
  const renewed = await ask(first.expiresAt - 0.9 * DAY_MS + 1)
  expect(renewed.expiresAt).toBeGreaterThan(first.expiresAt)
  expect(await ask(NOW + 0.15 * DAY_MS)).toBe(renewed)
})

it('the cache of links keeps a bounded number, the newest ones', async () => {
  const link = createLinkCache()
  const oldest = await link(env, 'oldest', 60, NOW)
  let newest = oldest
  for (let count = 0; count < 1000; count++) newest = await link(env, `k${count}`, 60, NOW)
  expect(await link(env, 'k999', 60, NOW)).toBe(newest)
  expect(await link(env, 'oldest', 60, NOW)).not.toBe(oldest)
})
