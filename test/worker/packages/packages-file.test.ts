import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import {
  digest,
  makeDraft,
  makeTenantWithProduct,
  putBytes,
  randomBytes,
  storedBytes,
  storedObjects,
} from './packages-fixture.ts'

const MIB = 1024 * 1024

async function makeDraftPackage(fields: object = {}) {
  const tenant = await makeTenantWithProduct()
  const id = await makeDraft(tenant, fields)
  const path = `/api/v1/packages/${id}`
  return { tenant, id, path, file: `${path}/file`, show: async () => (await tenant.call('GET', path)).body }
}

it.each([
  ['SHA256', 'sha256'],
  ['MD5', 'md5'],
] as const)('a file is stored with its size and its %s', async (signMethod, algorithm) => {
  const { tenant, id, file, show } = await makeDraftPackage({ signMethod })
  const bytes = randomBytes(3 * MIB + 17)
  const headers = { 'X-Content-SHA256': digest('sha256', bytes).toUpperCase() }
  const answer = await putBytes(tenant, `${file}?filename=Firm%20w%C3%A4re%22.bin`, bytes, headers)
  expect(answer.status).toBe(200)
  expect(answer.body).toMatchObject({
    state: 'ready',
    size: bytes.byteLength,
    sign: digest(algorithm, bytes),
    signMethod,
    filename: 'Firm wäre_.bin',
    error: null,
  })
  expect(JSON.stringify(answer.body)).not.toContain('storage')
  expect(await show()).toEqual(answer.body)
  const [object, ...more] = await storedObjects(tenant, id)
  expect(more).toEqual([])
  expect((await storedBytes(object!.key)).equals(bytes)).toBe(true)
  const { httpMetadata } = (await env.PACKAGES.head(object!.key))!
  expect(httpMetadata).toMatchObject({
    contentType: 'application/octet-stream',
    contentDisposition: "attachment; filename*=UTF-8''Firm%20w%C3%A4re_.bin",
  })
})

it('path characters and control characters in a file name are replaced or removed', async () => {
  const { tenant, file } = await makeDraftPackage()
  const name = encodeURIComponent('../a\\b\r\nSet-Cookie: x\u202Egnp.exe\ud800'.replace('\ud800', ''))
  const answer = await putBytes(tenant, `${file}?filename=${name}`, randomBytes(10))
  expect(answer.body.filename).toBe('.._a_b__Set-Cookie_ x_gnp.exe')
})

it.each([
  ['an empty file', '', new Uint8Array(), {}, 422, 'body'],
  [
    'a digest that is no SHA-256',
    '',
    randomBytes(10),
    { 'x-content-sha256': 'abc' },
    422,
    'x-content-sha256',
  ],
  ['a long file name', `?filename=${'f'.repeat(256)}`, randomBytes(10), {}, 422, 'filename'],
])('%s is refused, and the package stays a draft', async (_, query, bytes, headers, status, path) => {
  const { tenant, id, file, show } = await makeDraftPackage()
  const answer = await putBytes(tenant, file + query, bytes, headers)
  expect(answer.body).toMatchObject({ status, code: 'request.invalid', errors: [{ path }] })
  expect(await storedObjects(tenant, id)).toEqual([])
  expect((await show()).state).toBe('draft')
})

it('a file without a length and a file over 100 MB are refused before they are read', async () => {
  const { tenant, id, file, show } = await makeDraftPackage()
  const neverRead = () => new ReadableStream({ type: 'bytes', pull: () => {} })
  const unknown = await putBytes(tenant, file, neverRead())
  expect(unknown.body).toMatchObject({ status: 411, code: 'request.length_required' })
  const large = await putBytes(tenant, file, neverRead(), { 'content-length': String(100 * MIB + 1) })
  expect(large.body).toMatchObject({ status: 413, code: 'upload.too_large' })
  expect(await storedObjects(tenant, id)).toEqual([])
  expect((await show()).state).toBe('draft')
})

it('a file whose digest does not match is refused and removed, and the right file is taken afterwards', async () => {
  const { tenant, id, file, show } = await makeDraftPackage({ signMethod: 'MD5' })
  const bytes = randomBytes(100_000)
  const wrong = await putBytes(tenant, file, bytes, { 'X-Content-SHA256': digest('sha256', randomBytes(10)) })
  expect(wrong.body).toMatchObject({ status: 422, errors: [{ path: 'x-content-sha256' }] })
  expect(wrong.body.errors[0].message).toContain(digest('sha256', bytes))
  expect(await storedObjects(tenant, id)).toEqual([])
  expect(await show()).toMatchObject({ state: 'draft', size: null, sign: null, filename: null })
  const right = await putBytes(tenant, file, bytes, { 'X-Content-SHA256': digest('sha256', bytes) })
  expect(right.body).toMatchObject({ state: 'ready', sign: digest('md5', bytes) })
})

it.each([
  ['fails half-way', (bytes: Uint8Array) => [bytes, new Error('gone')]],
  ['ends half-way', (bytes: Uint8Array) => [bytes]],
  ['is longer than announced', (bytes: Uint8Array) => [bytes, bytes, bytes]],
])('a body that %s leaves nothing behind', async (_, chunksOf) => {
  const { tenant, id, file, show } = await makeDraftPackage()
  const chunks = chunksOf(randomBytes(60_000))
  const body = new ReadableStream({
    pull(controller) {
      const chunk = chunks.shift()
      if (chunk === undefined) controller.close()
      else if (chunk instanceof Error) controller.error(chunk)
      else controller.enqueue(chunk)
    },
  })
  const answer = await putBytes(tenant, file, body, { 'content-length': '120000' })
  expect(answer.body).toMatchObject({ status: 400, code: 'upload.incomplete' })
  expect(await storedObjects(tenant, id)).toEqual([])
  expect((await show()).state).toBe('draft')
})

it('the file of a ready package never changes', async () => {
  const { tenant, id, file, path, show } = await makeDraftPackage()
  const bytes = randomBytes(1000)
  await putBytes(tenant, file, bytes)
  const ready = await show()
  const refused = { status: 409, code: 'package.ready' }
  expect((await putBytes(tenant, file, randomBytes(1000))).body).toMatchObject(refused)
  expect((await tenant.call('POST', `${path}/uploads`, { size: 10 })).body).toMatchObject(refused)
  expect(await show()).toEqual(ready)
  const [object] = await storedObjects(tenant, id)
  expect((await storedBytes(object!.key)).equals(bytes)).toBe(true)
})

it("of several files that come at once, one becomes the package's file", async () => {
  const { tenant, id, file, show } = await makeDraftPackage()
  const files = Array.from({ length: 4 }, () => randomBytes(200_000))
  const answers = await Promise.all(files.map((bytes) => putBytes(tenant, file, bytes)))
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409])
  const won = files[answers.findIndex(({ status }) => status === 200)]!
  expect((await show()).sign).toBe(digest('sha256', won))
  const [object, ...more] = await storedObjects(tenant, id)
  expect(more).toEqual([])
  expect((await storedBytes(object!.key)).equals(won)).toBe(true)
})
