import { env } from 'cloudflare:workers'
import { sign } from 'hono/jwt'
import { afterEach, expect, it, vi } from 'vitest'
import { app } from '../../../src/app.ts'

afterEach(() => vi.restoreAllMocks())

const AUDIENCE = 'audience'
let teams = 0

/** Visits the console by Access of a team that is asked for its keys for the first time. */
async function visit(): Promise<number> {
  const team = `https://team-${++teams}.cloudflareaccess.com`
  const settings = {
    ACCESS_TEAM: team,
    ACCESS_AUDIENCE: AUDIENCE,
    ACCESS_GRANTS: JSON.stringify([{ who: '@example.com', tenantId: 'ten_1', role: 'viewer' }]),
  }
  const claims = { iss: team, aud: [AUDIENCE], email: 'ada@example.com', exp: 9_999_999_999 }
  const token = await sign(claims, 'not the team', 'HS256')
  const request = new Request('http://edge-ota.test/products', {
    headers: { 'cf-access-jwt-assertion': token },
  })
  return (await app.fetch(request, { ...env, ...settings } as never)).status
}

it('the keys of Access are waited for only so long, and without them nobody gets in', async () => {
  const limits: number[] = []
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    limits.push(ms)
    return AbortSignal.abort(new DOMException('too late', 'TimeoutError'))
  })
  // A server that never answers; only the signal ends the waiting.
  vi.spyOn(globalThis, 'fetch').mockImplementation(
    (_url, init) =>
      new Promise((_resolve, reject) => {
        if (init?.signal?.aborted) reject(init.signal.reason)
      }),
  )
  expect(await visit()).toBe(303)
  expect(limits).toHaveLength(1)
  expect(limits[0]).toBeLessThanOrEqual(10_000)
})
