import { createExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { createRouter } from '../../../src/http/openapi.ts'
import { idempotency } from '../../../src/idempotency/middleware.ts'
import { makeTenant } from '../api.ts'

/** Posts twice under one Idempotency-Key to a route whose answer has this text. Returns both statuses, and how often it ran. */
async function postTwice(text: string) {
  const { key, tenantId } = await makeTenant()
  let runs = 0
  const router = createRouter()
  router.use((c, next) => {
    c.set('principal', { keyId: `key of ${tenantId}` } as typeof c.var.principal)
    return next()
  })
  router.use(idempotency)
  router.post('/long', (c) => {
    runs += 1
    return c.json({ text })
  })
  const post = async () => {
    const headers = {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'idempotency-key': 'one',
    }
    const init = { method: 'POST', headers, body: '{}' }
    return (await router.request('/long', init, env, createExecutionContext())).status
  }
  return { statuses: [await post(), await post()], runs }
}

it('an answer that one row of D1 holds is kept', async () => {
  expect(await postTwice('字'.repeat(300_000))).toEqual({ statuses: [200, 200], runs: 1 })
})

it('an answer that is too long in bytes, though not in characters, is not kept, and its repeat is not locked out', async () => {
  expect(await postTwice('字'.repeat(900_000))).toEqual({ statuses: [200, 200], runs: 2 })
})
