import { inspectRoutes } from 'hono/dev'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { caller, makeTenant } from '../api.ts'
import { makeLab } from '../lab.ts'

/** What is the same for everybody, and holds no secret. */
const PUBLIC = ['/openapi.json', '/docs', '/assets/:hash/:name', '/favicon.ico']

it('no answer may be kept or read as another type, but for the public ones', async () => {
  const { call } = await makeTenant()
  const routes = inspectRoutes(app).filter(({ isMiddleware, method }) => !isMiddleware && method !== 'ALL')
  for (const { method, path } of routes) {
    for (const send of [call, caller(undefined)]) {
      const { headers, status } = await send(method, path)
      expect([method, path, headers.get('x-content-type-options')]).toEqual([method, path, 'nosniff'])
      if (PUBLIC.includes(path) && status === 200) continue
      expect([method, path, headers.get('cache-control')]).toEqual([
        method,
        path,
        expect.stringMatching(/\bno-store$/),
      ])
    }
  }
  const nowhere = await call('GET', '/api/v1/nowhere')
  expect(nowhere.headers.get('cache-control')).toBe('no-store')
})

it('answers with a key, a token or a link may not be kept', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices
  const answers = [
    await lab.admin.call('POST', '/api/v1/keys', { name: 'k', role: 'viewer' }),
    await lab.admin.call('GET', `/api/v1/devices/${device!.id}`),
    await lab.admin.call('POST', `/api/v1/devices/${device!.id}/rotate-token`),
    await lab.bridge.client.call('GET', '/bridge/v1/credentials'),
    await caller(device!.token)('GET', '/device/v1/upgrade'),
  ]
  for (const { headers } of answers) {
    expect(headers.get('cache-control')).toBe('no-store')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
  }
})

it('the OpenAPI document is made once', async () => {
  const anyone = caller(undefined)
  const first = await anyone('GET', '/openapi.json')
  expect(first.headers.get('content-type')).toContain('application/json')
  const make = app.getOpenAPI31Document
  let made = 0
  app.getOpenAPI31Document = ((...config: Parameters<typeof make>) => {
    made += 1
    return make.apply(app, config)
  }) as typeof make
  try {
    for (let count = 0; count < 3; count++) {
      expect((await anyone('GET', '/openapi.json')).body).toEqual(first.body)
      expect((await anyone('GET', '/docs')).status).toBe(200)
    }
    // The page once more, if nobody has read it before.
    expect(made).toBeLessThanOrEqual(1)
  } finally {
    app.getOpenAPI31Document = make
  }
})
