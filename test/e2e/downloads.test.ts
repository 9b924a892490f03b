import { Buffer } from 'node:buffer'
import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, inject, it, vi } from 'vitest'
import { createTestHarness } from 'wrangler'
import { hashKey, newKey } from '../../src/auth/key.ts'
import type { Env } from '../../src/common/env.ts'
import { type DownloadConfig, signDownload } from '../../src/links/links.ts'

// End to end, since the local bucket's S3 endpoint is reachable only at the server's real address.

const MIB = 1024 * 1024
const TENANT = 'ten_downloads'
const TTL_SECONDS = 3600

const server = createTestHarness({
  workers: [{ configPath: 'wrangler.toml', prebuiltWorkerDir: inject('prebuiltWorkerDir') }],
})
const key = newKey()
let url: URL
let env: Env
let config: DownloadConfig
let productId: string
let versions = 0

beforeAll(async () => {
  ;({ url } = await server.listen())
  const worker = server.getWorker<Env>()
  await worker.applyD1Migrations('DB')
  env = await worker.getEnv()
  config = { ...env, R2_S3_ENDPOINT: new URL('/cdn-cgi/local/r2/s3', url).href }
  await env.DB.prepare(
    "INSERT INTO api_keys (id, tenant_id, name, role, hash, created_at) VALUES (?, ?, 'k', 'admin', ?, 0)",
  )
    .bind('key_downloads', TENANT, await hashKey(key))
    .run()
  productId = (await call('POST', '/api/v1/products', JSON.stringify({ name: 'a product' }))).body.id
})

afterAll(() => server.close())

async function call(method: string, path: string, body?: string | Buffer) {
  const response = await fetch(new URL(path, url), {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(typeof body === 'string' && { 'content-type': 'application/json' }),
    },
    ...(body !== undefined && { body: body as BodyInit }),
  })
  return { status: response.status, body: JSON.parse((await response.text()) || 'null') }
}

async function makeDraft(): Promise<string> {
  const draft = { productId, name: 'firmware', version: `v${++versions}` }
  return (await call('POST', '/api/v1/packages', JSON.stringify(draft))).body.id
}

const storedKeys = async (packageId: string) =>
  (await env.PACKAGES.list({ prefix: `packages/${TENANT}/${packageId}/` })).objects.map(({ key }) => key)

/** Makes a ready package and a presigned link to its file. */
async function makeLink(bytes: Buffer, now = Date.now(), ttlSeconds = TTL_SECONDS) {
  const id = await makeDraft()
  const ready = await call('PUT', `/api/v1/packages/${id}/file?filename=firmw%C3%A4re.bin`, bytes)
  expect(ready.status).toBe(200)
  const [storageKey] = await storedKeys(id)
  return { ...(await signDownload(config, storageKey!, ttlSeconds, now)), sign: ready.body.sign as string }
}

const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

it('a cut presigned download is resumed with Range and a newer link', async () => {
  const bytes = randomBytes(300_001)
  const now = Date.now()
  const { url, expiresAt, sign } = await makeLink(bytes, now - 5000)
  expect(expiresAt).toBe(Math.floor((now - 5000) / 1000) * 1000 + TTL_SECONDS * 1000)

  const first = await fetch(url, { headers: { range: 'bytes=0-149999' } })
  expect(first.status).toBe(206)
  expect(first.headers.get('content-range')).toBe('bytes 0-149999/300001')
  const storageKey = decodeURIComponent(new URL(url).pathname.split(`/${config.R2_BUCKET}/`)[1]!)
  const newer = await signDownload(config, storageKey, TTL_SECONDS, now)
  expect(newer.url).not.toBe(url)
  const rest = await fetch(newer.url, { headers: { range: 'bytes=150000-' } })
  expect(rest.status).toBe(206)
  expect(rest.headers.get('content-range')).toBe('bytes 150000-300000/300001')
  expect(rest.headers.get('etag')).toBe(first.headers.get('etag'))
  expect(first.headers.get('etag')).toMatch(/^"[^"]+"$/)

  const whole = Buffer.concat([await first.bytes(), await rest.bytes()])
  expect(whole.equals(bytes)).toBe(true)
  expect(digest(whole)).toBe(sign)
})

it('a presigned link returns the whole file with its length and name', async () => {
  const bytes = randomBytes(5000)
  const answer = await fetch((await makeLink(bytes)).url)
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-length')).toBe('5000')
  expect(answer.headers.get('content-type')).toBe('application/octet-stream')
  expect(answer.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''firmw%C3%A4re.bin")
  expect(Buffer.from(await answer.bytes()).equals(bytes)).toBe(true)
})

it('a presigned link refuses a range past the end', async () => {
  const { url } = await makeLink(randomBytes(100))
  expect((await fetch(url, { headers: { range: 'bytes=100-' } })).status).toBe(416)
})

it('expired and altered presigned links are refused', async () => {
  const expired = await makeLink(randomBytes(100), Date.now() - 120_000, 60)
  expect(expired.expiresAt).toBeLessThan(Date.now())
  expect((await fetch(expired.url)).status).toBe(403)
  const { url } = await makeLink(randomBytes(100))
  for (const [from, to] of [
    [/X-Amz-Expires=\d+/, 'X-Amz-Expires=604800'],
    [/X-Amz-Signature=[0-9a-f]{4}/, 'X-Amz-Signature=0000'],
    [/\/packages\/ten_\w+\//, '/packages/ten_other/'],
  ] as const) {
    const altered = url.replace(from, to)
    expect(altered).not.toBe(url)
    expect((await fetch(altered)).status).toBe(403)
  }
  expect((await fetch(url.replace(/\?.*/, ''))).status).toBe(400)
  expect((await fetch(url, { method: 'PUT', body: 'x' })).status).toBe(403)
  expect((await fetch(url, { method: 'DELETE' })).status).toBe(403)
  expect((await fetch(url)).status).toBe(200)
})

it('an upload whose connection breaks leaves nothing in the bucket', async () => {
  const id = await makeDraft()
  const socket = connect(Number(url.port), url.hostname)
  socket.on('error', () => {})
  socket.write(
    `PUT /api/v1/packages/${id}/file HTTP/1.1\r\nHost: ${url.host}\r\nAuthorization: Bearer ${key}\r\n` +
      `Content-Length: ${10 * MIB}\r\n\r\n`,
  )
  await new Promise<void>((resolve) => socket.write(randomBytes(5 * MIB), () => resolve()))
  socket.destroy()
  const bytes = randomBytes(1000)
  const again = await call('PUT', `/api/v1/packages/${id}/file`, bytes)
  expect(again.body).toMatchObject({ state: 'ready', size: 1000, sign: digest(bytes) })
  await vi.waitUntil(async () => (await storedKeys(id)).length === 1, { timeout: 60_000 })
})

/** Sends a body that the server answers unread, and returns the answer. `fetch` may find the connection cut before it. */
async function putUnread(path: string, body: Buffer) {
  const { hostname, port } = url
  const socket = connect(Number(port), hostname)
  const head = [`PUT ${path} HTTP/1.1`, `host: ${url.host}`, `authorization: Bearer ${key}`]
  socket.write(`${[...head, `content-length: ${body.length}`].join('\r\n')}\r\n\r\n`)
  let answer = ''
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject).on('close', () => resolve())
    socket.on('data', (data) => {
      answer += data
      if (answer.includes('}')) resolve()
    })
    // The answer comes after a part of the body at the latest.
    socket.write(body.subarray(0, MIB))
  }).finally(() => socket.destroy())
  return JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1))
}

it('a file of 100 MB is taken in one request, and one byte more is refused', async () => {
  const id = await makeDraft()
  const bytes = randomBytes(100 * MIB)
  const large = await putUnread(`/api/v1/packages/${id}/file`, Buffer.concat([bytes, Buffer.from('x')]))
  expect(large).toMatchObject({ status: 413, code: 'upload.too_large' })
  const ready = await call('PUT', `/api/v1/packages/${id}/file`, bytes)
  expect(ready.body).toMatchObject({ state: 'ready', size: 100 * MIB, sign: digest(bytes) })
  expect(await storedKeys(id)).toHaveLength(1)
})
