import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { type Lab, type LabDevice, makeLab } from '../lab.ts'

/** In place of 3,000 for each download, so that the test is short. */
const LIMIT = 60

const context = () => ({ waitUntil: () => {}, passThroughOnException: () => {}, props: {} })

async function fetchFrom(address: string, url: string, bindings: Partial<typeof env> = {}) {
  const request = new Request(url, { headers: { range: 'bytes=0-1', 'cf-connecting-ip': address } })
  const response = await app.fetch(request, { ...env, ...bindings }, context() as never)
  await response.body?.cancel()
  return response
}

async function linksOf(lab: Lab): Promise<string[]> {
  await lab.upgradeTo('v2')
  const links: string[] = []
  for (const device of lab.devices as LabDevice[]) links.push((await lab.push(device)).notice.params.url)
  return links
}

it('a site behind one address downloads as far as each of its devices may, also if the address is over the limit of the device API', async () => {
  const [url] = await linksOf(await makeLab(1, { downloads: 'worker' }))
  const DEVICE_LIMIT = { limit: async () => ({ success: false }) }
  expect((await fetchFrom('192.0.2.1', url!, { DEVICE_LIMIT })).status).toBe(206)
})

it("one device's download has a limit of its own, which no other device behind the address meets", async () => {
  const [first, second] = await linksOf(await makeLab(2, { downloads: 'worker' }))
  const limited = { DOWNLOAD_LIMIT: env.WRONG_LINK_LIMIT }
  let last: Response | undefined
  // The rate limit's window may turn over once in between.
  for (let count = 0; count < 2 * LIMIT && last?.status !== 429; count++) {
    last = await fetchFrom('192.0.2.3', first!, limited)
    expect([206, 429]).toContain(last.status)
  }
  expect(last?.status).toBe(429)
  expect(Number(last?.headers.get('retry-after'))).toBeGreaterThan(0)
  expect((await fetchFrom('192.0.2.3', second!, limited)).status).toBe(206)
})

it('an address that tries wrong links is refused, and its right ones are served', async () => {
  const [url] = await linksOf(await makeLab(1, { downloads: 'worker' }))
  const wrong = `${url!.slice(0, -4)}AAAA`
  let last: Response | undefined
  for (let count = 0; count < 2 * LIMIT && last?.status !== 429; count++) {
    last = await fetchFrom('2001:db8:9::1', wrong)
    expect([404, 429]).toContain(last.status)
  }
  expect(last?.status).toBe(429)
  expect((await fetchFrom('2001:db8:9:0:ffff::1', wrong)).status).toBe(429)
  expect((await fetchFrom('2001:db8:9::1', url!)).status).toBe(206)
  expect((await fetchFrom('2001:db8:9:1::1', wrong)).status).toBe(404)
})
