import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { env, exports } from 'cloudflare:workers'
import fc from 'fast-check'
import { inspectRoutes } from 'hono/dev'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { app } from '../../../src/app.ts'
import { downloadKey } from '../../../src/links/linker.ts'
import { makeToken } from '../../../src/links/token.ts'
import { type Operation, readOperations } from '../openapi/document.ts'
import { type Fixture, makeFixture } from '../openapi/fixture.ts'
import { toRequest } from '../openapi/send.ts'
import { validRequest } from '../openapi/valid.ts'
import { BINDINGS, type Binding, faultyEnv, PLATFORM_TEXT } from './faulty-env.ts'

const ORIGIN = 'http://edge-ota.test'
/** Requests to an operation among which one is looked for that succeeds. */
const SAMPLES = 12
const MAX_CALLS = 30
/** They also note in a task that the device is there, which shows again soon enough. */
const ALSO_NOTES = new Set(['/d/:token', '/device/v1/upgrade'])
/** A client that is refused a socket comes again by itself. */
const SOCKETS = new Set(['/bridge/v1/socket', '/tasks/:id/live'])

const routes = inspectRoutes(app).filter(({ isMiddleware, method }) => !isMiddleware && method !== 'ALL')
const operations = await readOperations()

const operationOf = (route: { method: string; path: string }) =>
  operations.find(
    ({ method, path }) => method === route.method && path === route.path.replaceAll(/:(\w+)/g, '{$1}'),
  )

// A test of what happens after the tries needs not wait between them.
beforeAll(() => void vi.spyOn(scheduler, 'wait').mockResolvedValue())
afterAll(() => void vi.restoreAllMocks())

/** The request for one use, as often as it is asked for. */
type Ask = () => Promise<Request>

function askOperation(operation: Operation, fixture: Fixture, sample: number): Ask {
  const sketch = fc.sample(validRequest(operation, fixture), { seed: 1, numRuns: SAMPLES })[sample]!
  return async () => {
    const request = toRequest(operation, { ...sketch, planted: [] }, fixture)!
    if (operation.path === '/bridge/v1/socket') request.headers.set('upgrade', 'websocket')
    return request
  }
}

/** A page of the console, the sign-in, or a download. */
async function askPage(method: string, route: string, fixture: Fixture): Promise<Ask> {
  const cookie = await signIn(fixture.keys.admin)
  const token = await makeToken(await downloadKey(env), {
    taskId: fixture.values['tasks.id']![0]!,
    deviceId: fixture.values.deviceId![0]!,
    packageIndex: 0,
    expiresAt: Date.now() + 3_600_000,
  })
  const values: Record<string, string[]> = {
    ...fixture.values,
    token: [token],
    id: fixture.values[`${route.split('/:')[0]!.split('/').at(-1)}.id`] ?? [],
  }
  const path = route.replaceAll(/:(\w+)/g, (_, name: string) => values[name]?.[0] ?? 'x')
  const isPost = method === 'POST'
  return async () =>
    new Request(`${ORIGIN}${path}`, {
      method,
      redirect: 'manual',
      headers: { cookie, origin: ORIGIN, ...(path.endsWith('/live') && { upgrade: 'websocket' }) },
      ...(isPost && { body: new URLSearchParams({ key: fixture.keys.admin, to: '/' }) }),
    })
}

let visitors = 0

/** Each time from another address, since sign-ins of one address are limited. */
async function signIn(key: string): Promise<string> {
  const answer = await exports.default.fetch(`${ORIGIN}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    headers: { origin: ORIGIN, 'cf-connecting-ip': `192.0.2.${visitors++ % 250}` },
    body: new URLSearchParams({ key, to: '/' }),
  })
  return answer.headers.get('set-cookie')!.split(';')[0]!
}

/** Asks with bindings of which one fails. */
async function askWith(request: Request, faulty: ReturnType<typeof faultyEnv>) {
  const context = createExecutionContext()
  const answer = await app.fetch(request, faulty.env, context)
  answer.webSocket?.accept()
  answer.webSocket?.close()
  const text = await answer.text().catch(() => 'cut off')
  await waitOnExecutionContext(context).catch(() => {})
  const { status, headers } = answer
  return { status, headers, text, uses: faulty.uses }
}

function expectUnavailable(path: string, answer: Awaited<ReturnType<typeof askWith>>, told: string): void {
  const { status, headers, text } = answer
  expect(text, told).not.toContain(PLATFORM_TEXT)
  if (status < 500) return
  expect(status, `${told}: ${text}`).toBe(503)
  expect(Number(headers.get('retry-after')), told).toBeGreaterThan(0)
  const isPage = !/^\/(api|bridge|broker|device|d)\//.test(path)
  expect(headers.get('content-type'), told).toMatch(isPage ? /^text\/html/ : /^application\/problem\+json/)
  if (!isPage) expect(JSON.parse(text), told).toMatchObject({ status: 503, title: 'Service Unavailable' })
}

/** Each call of the binding in turn fails, with all later ones. Returns the answer to a request of which none did. */
async function failInTurn(route: { method: string; path: string }, ask: Ask, binding: Binding) {
  for (let from = 0; from < MAX_CALLS; from++) {
    const answer = await askWith(await ask(), faultyEnv(binding, { from }))
    const told = `${route.method} ${route.path}, ${binding} from call ${from}`
    expectUnavailable(route.path, answer, told)
    if (answer.uses[binding] <= from) return answer
    // What only reads has nothing to say without the binding; a change may have been made all the same.
    if (route.method === 'GET' && !ALSO_NOTES.has(route.path)) expect(answer.status, told).toBe(503)
    if (route.path.startsWith('/broker/'))
      expect([answer.status, answer.text]).toEqual([200, '{"result":"deny"}'])
    if (route.path === '/bridge/v1/messages' && answer.status === 200) {
      for (const { status } of JSON.parse(answer.text).results) expect(status, told).not.toBe('taken')
    }
  }
  throw new Error('asks too often')
}

/** The first call of each binding is lost, and made again. */
async function loseOnce(route: { method: string; path: string }, ask: Ask) {
  const { status } = await askWith(await ask(), faultyEnv())
  for (const binding of BINDINGS) {
    const answer = await askWith(await ask(), faultyEnv(binding, { until: 1 }))
    expect(answer.status, `${route.path}, ${binding} lost once: ${answer.text.slice(0, 300)}`).toBe(status)
  }
}

describe.each(routes.map(({ method, path }) => ({ method, path })))('$method $path', (route) => {
  it('is a 503 with Retry-After, or safe, whichever binding fails at whichever call', async () => {
    const operation = operationOf(route)
    let sample = 0
    const askIn = async (fixture: Fixture) =>
      operation ? askOperation(operation, fixture, sample) : askPage(route.method, route.path, fixture)
    if (operation) {
      const scratch = await makeFixture()
      for (; sample < SAMPLES - 1; sample++) {
        const answer = await askWith(await askOperation(operation, scratch, sample)(), faultyEnv())
        if (answer.status < 400) break
      }
    }
    if (route.method === 'GET' && !SOCKETS.has(route.path))
      await loseOnce(route, await askIn(await makeFixture()))
    const { uses } = await failInTurn(route, await askIn(await makeFixture()), 'DB')
    for (const binding of BINDINGS) {
      if (binding !== 'DB' && uses[binding] > 0)
        await failInTurn(route, await askIn(await makeFixture()), binding)
    }
  })
})
