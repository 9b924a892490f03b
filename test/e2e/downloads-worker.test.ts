import { Buffer } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { createTestHarness } from 'wrangler'
import { hashKey, newKey } from '../../src/auth/key.ts'
import type { Env } from '../../src/common/env.ts'

// Over a real connection, since lengths, ranges and broken bodies depend on the server as well as on the Worker.

const TENANT = 'ten_downloads_worker'
const FILE_BYTES = 20_000_001
const POLL = { timeout: 60_000, interval: 50 }

const server = createTestHarness({
  workers: [{ configPath: 'wrangler.toml', prebuiltWorkerDir: inject('prebuiltWorkerDir') }],
})
const key = newKey()
const bytes = randomBytes(FILE_BYTES)
let url: URL
let taskPath: string
let devicePath: string
let link: URL

beforeAll(async () => {
  ;({ url } = await server.listen())
  const worker = server.getWorker<Env>()
  await worker.applyD1Migrations('DB')
  const env = await worker.getEnv()
  await env.DB.prepare(
    "INSERT INTO api_keys (id, tenant_id, name, role, hash, created_at) VALUES (?, ?, 'k', 'admin', ?, 0)",
  )
    .bind('key_downloads_worker', TENANT, await hashKey(key))
    .run()
  const product = await call('POST', '/api/v1/products', { name: 'lamp', downloads: 'worker' })
  const device = await call('POST', '/api/v1/devices', { productId: product.id, number: 'n1' })
  const pkg = await call('POST', '/api/v1/packages', { productId: product.id, name: 'fw', version: 'v2' })
  await call('PUT', `/api/v1/packages/${pkg.id}/file`, bytes)
  const task = await call('POST', '/api/v1/tasks', { packageId: pkg.id, name: 'up', devices: 'all' })
  taskPath = `/api/v1/tasks/${task.id}`
  devicePath = `${taskPath}/devices/${device.id}`
  await vi.waitFor(async () => expect((await call('GET', devicePath)).status).toBe('pending'), POLL)
  const { params } = await call('GET', '/device/v1/upgrade', undefined, device.accessToken)
  // Links have PUBLIC_URL's address, which is not that of the test's server.
  link = new URL(new URL(params.url).pathname, url)
})

afterAll(() => server.close())

async function call(method: string, path: string, body?: object, token = key) {
  const response = await fetch(new URL(path, url), {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body && !Buffer.isBuffer(body) && { 'content-type': 'application/json' }),
    },
    ...(body && { body: (Buffer.isBuffer(body) ? body : JSON.stringify(body)) as BodyInit }),
  })
  const text = await response.text()
  expect(response.ok, `${method} ${path}: ${response.status} ${text}`).toBe(true)
  return JSON.parse(text || 'null')
}

const kinds = async (): Promise<string[]> =>
  (await call('GET', devicePath)).events.map(({ kind }: { kind: string }) => kind)

it('HEAD on a link through the Worker gives the length and that ranges work', async () => {
  const head = await fetch(link, { method: 'HEAD' })
  expect(head.status).toBe(200)
  expect(head.headers.get('content-length')).toBe(String(FILE_BYTES))
  expect(head.headers.get('accept-ranges')).toBe('bytes')
  expect(await kinds()).not.toContain('download began')
})

it('a cut download through the Worker is resumed with Range to the last byte', async () => {
  const connection = new AbortController()
  const answer = await fetch(link, { signal: connection.signal })
  expect(answer.headers.get('content-length')).toBe(String(FILE_BYTES))
  const first = (await answer.body!.getReader().read()).value!
  connection.abort()
  await expect.poll(kinds, POLL).toContain('download began')
  const rest = await fetch(link, {
    headers: { range: `bytes=${first.length}-`, 'if-range': answer.headers.get('etag')! },
  })
  expect(rest.status).toBe(206)
  expect(rest.headers.get('content-range')).toBe(`bytes ${first.length}-${FILE_BYTES - 1}/${FILE_BYTES}`)
  expect(rest.headers.get('content-length')).toBe(String(FILE_BYTES - first.length))
  expect(await kinds()).not.toContain('download completed')
  expect(Buffer.concat([first, await rest.bytes()]).equals(bytes)).toBe(true)
  await expect.poll(kinds, POLL).toContain('download completed')
})

it('a download through the Worker is stopped while the task is paused', async () => {
  await call('POST', `${taskPath}/pause`)
  const paused = await fetch(link)
  expect([paused.status, paused.headers.get('retry-after')]).toEqual([503, '60'])
  await call('POST', `${taskPath}/resume`)
  const resumed = await fetch(link, { headers: { range: 'bytes=-1' } })
  expect([resumed.status, (await resumed.bytes())[0]]).toEqual([206, bytes.at(-1)])
})
