import { env } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import {
  expectedPartSize,
  MAX_UPLOAD_BYTES,
  partCount,
  partSizeFor,
  UPLOAD_LIFETIME_MS,
} from '../../../src/packages/upload.ts'
import {
  digest,
  makeDraft,
  makeTenantWithProduct,
  putBytes,
  randomBytes,
  storedBytes,
  storedObjects,
  whenVerified,
} from './packages-fixture.ts'

const MIB = 1024 * 1024

it.each([1, 16 * MIB, 16 * MIB + 1, 1600 * MIB, 1600 * MIB + 1, 4 * 1024 * MIB + 17, MAX_UPLOAD_BYTES])(
  'an upload of %d bytes is divided into equal parts of a size that R2 and a request can take',
  (size) => {
    const partSize = partSizeFor(size)
    expect(partSize).toBeGreaterThanOrEqual(5 * MIB)
    expect(partSize).toBeLessThanOrEqual(100 * MIB)
    const sizes = Array.from({ length: partCount({ size, partSize }) }, (_, index) =>
      expectedPartSize({ size, partSize }, index + 1),
    )
    expect(sizes.length).toBeLessThanOrEqual(10_000)
    expect(sizes.slice(0, -1).every((each) => each === partSize)).toBe(true)
    expect(sizes.reduce((sum, each) => sum! + each!, 0)).toBe(size)
    expect(expectedPartSize({ size, partSize }, 0)).toBeUndefined()
    expect(expectedPartSize({ size, partSize }, sizes.length + 1)).toBeUndefined()
  },
)

async function makeDraftPackage(fields: object = {}) {
  const tenant = await makeTenantWithProduct()
  const id = await makeDraft(tenant, fields)
  const path = `/api/v1/packages/${id}`
  const { call } = tenant
  const start = async (body: object) => {
    const { uploadId } = (await call('POST', `${path}/uploads`, body)).body
    const upload = `${path}/uploads/${uploadId}`
    return {
      uploadId: uploadId as string,
      upload,
      part: (n: number | string, bytes: Uint8Array<ArrayBuffer>) =>
        putBytes(tenant, `${upload}/parts/${n}`, bytes),
      complete: () => call('POST', `${upload}/complete`),
      show: async () => (await call('GET', upload)).body,
    }
  }
  return { tenant, id, path, call, start, show: async () => (await call('GET', path)).body }
}

it('a file that is uploaded in parts makes its package ready', async () => {
  const { tenant, id, start, call } = await makeDraftPackage({ signMethod: 'MD5' })
  const bytes = randomBytes(16 * MIB + 1000)
  const sha256 = digest('sha256', bytes).toUpperCase()
  const size = bytes.byteLength
  const { uploadId, upload, part, complete, show } = await start({ size, sha256, filename: 'big.bin' })
  expect(uploadId).toMatch(/^upl_/)
  expect(await show()).toEqual({ uploadId, size, partSize: 16 * MIB, parts: [], missing: [1, 2] })

  const [first, last] = [bytes.subarray(0, 16 * MIB), bytes.subarray(16 * MIB)]
  expect((await part(2, randomBytes(1000))).body).toEqual({ part: 2, size: 1000 })
  expect((await complete()).body).toMatchObject({ status: 422, errors: [{ path: 'parts.1' }] })
  expect((await part(1, first)).status).toBe(200)
  expect((await part(2, last)).status).toBe(200)
  const parts = [
    { part: 1, size: 16 * MIB },
    { part: 2, size: 1000 },
  ]
  expect(await show()).toEqual({ uploadId, size, partSize: 16 * MIB, parts, missing: [] })

  const completed = await complete()
  expect(completed).toMatchObject({ status: 202, body: { state: 'verifying' } })
  expect(await whenVerified(tenant, id)).toMatchObject({
    state: 'ready',
    error: null,
    size,
    sign: digest('md5', bytes),
    filename: 'big.bin',
  })
  const [object, ...more] = await storedObjects(tenant, id)
  expect(more).toEqual([])
  expect((await storedBytes(object!.key)).equals(bytes)).toBe(true)
  expect((await complete()).body).toMatchObject({ status: 409, code: 'package.ready' })
  await vi.waitUntil(async () => (await call('GET', upload)).status === 404, { timeout: 60_000 })
})

it.each([
  ['an empty file', { size: 0 }, 'size'],
  ['no size', {}, 'size'],
  ['a size that is no integer', { size: 1.5 }, 'size'],
  ['a file over 5 GB', { size: 5 * 1024 * MIB + 1 }, 'size'],
  ['a digest that is no SHA-256', { size: 10, sha256: 'f'.repeat(63) }, 'sha256'],
  ['a long file name', { size: 10, filename: 'f'.repeat(256) }, 'filename'],
])('an upload with %s is refused', async (_, body, path) => {
  const one = await makeDraftPackage()
  const refused = await one.call('POST', `${one.path}/uploads`, body)
  expect(refused.body).toMatchObject({ status: 422, errors: [{ path }] })
})

it('a part is refused if the upload has no such part or if its size is wrong', async () => {
  const { start } = await makeDraftPackage()
  const { part, show } = await start({ size: 1000 })
  for (const n of [0, 2, -1, 1.5, 'x', '99999999999999999999']) {
    expect((await part(n, randomBytes(1000))).body).toMatchObject({ status: 422, errors: [{ path: 'n' }] })
  }
  for (const size of [0, 999, 1001]) {
    expect((await part(1, randomBytes(size))).body).toMatchObject({ status: 422, errors: [{ path: 'body' }] })
  }
  expect((await show()).parts).toEqual([])
})

it('an upload stays as it was if a part is cut off', async () => {
  const { tenant, id, start } = await makeDraftPackage()
  const bytes = randomBytes(100_000)
  const { upload, part, complete, show } = await start({ size: 100_000 })
  const half = new ReadableStream({
    start(controller) {
      controller.enqueue(bytes.subarray(0, 50_000))
      controller.close()
    },
  })
  const cutOff = await putBytes(tenant, `${upload}/parts/1`, half, { 'content-length': '100000' })
  expect(cutOff.body).toMatchObject({ status: 400, code: 'upload.incomplete' })
  expect((await show()).missing).toEqual([1])
  await part(1, bytes)
  await complete()
  expect((await whenVerified(tenant, id)).sign).toBe(digest('sha256', bytes))
})

it('a package whose upload has the wrong digest becomes a draft again and says why', async () => {
  const { tenant, id, start, path, show } = await makeDraftPackage()
  const bytes = randomBytes(1000)
  const { part, complete } = await start({ size: 1000, sha256: digest('sha256', randomBytes(10)) })
  await part(1, bytes)
  expect((await complete()).status).toBe(202)
  const failed = await whenVerified(tenant, id)
  expect(failed).toMatchObject({ state: 'draft', size: null, sign: null })
  expect(failed.error).toContain(digest('sha256', bytes))
  await vi.waitUntil(async () => (await storedObjects(tenant, id)).length === 0, { timeout: 60_000 })
  expect((await complete()).body).toMatchObject({ status: 404, code: 'upload.not_found' })
  await putBytes(tenant, `${path}/file`, bytes)
  expect(await show()).toMatchObject({ state: 'ready', error: null })
})

it('an upload that R2 completed before the process ended can be completed again', async () => {
  const { tenant, id, start, path } = await makeDraftPackage()
  const bytes = randomBytes(1000)
  const { uploadId, part, complete } = await start({ size: 1000 })
  await part(1, bytes)
  const row = await env.DB.prepare(
    'SELECT storage_key, r2_upload_id, etag FROM uploads JOIN upload_parts ON upload_id = id WHERE id = ?',
  )
    .bind(uploadId)
    .first<{ storage_key: string; r2_upload_id: string; etag: string }>()
  await env.PACKAGES.resumeMultipartUpload(row!.storage_key, row!.r2_upload_id).complete([
    { partNumber: 1, etag: row!.etag },
  ])
  expect((await complete()).status).toBe(202)
  expect(await whenVerified(tenant, id)).toMatchObject({ state: 'ready', sign: digest('sha256', bytes) })
  expect((await tenant.call('GET', path)).body.size).toBe(1000)
})

it('an upload that is completed several times at once is verified once', async () => {
  const { tenant, id, start } = await makeDraftPackage()
  const bytes = randomBytes(300_000)
  const { part, complete } = await start({ size: 300_000 })
  await part(1, bytes)
  const answers = await Promise.all([complete(), complete(), complete()])
  // A call that comes after the verification finds the package ready.
  for (const { status } of answers) expect([202, 409]).toContain(status)
  expect(answers.some(({ status }) => status === 202)).toBe(true)
  expect(await whenVerified(tenant, id)).toMatchObject({ state: 'ready', sign: digest('sha256', bytes) })
  expect(await storedObjects(tenant, id)).toHaveLength(1)
})

it('one of two uploads of a package wins, and the other is removed', async () => {
  const { tenant, id, start } = await makeDraftPackage()
  const [one, other] = [await start({ size: 1000 }), await start({ size: 2000 })]
  await one.part(1, randomBytes(1000))
  await other.part(1, randomBytes(2000))
  const answers = await Promise.all([one.complete(), other.complete()])
  expect(answers.map(({ status }) => status).sort()).toEqual([202, 409])
  const { size } = await whenVerified(tenant, id)
  expect(size).toBe(answers[0]!.status === 202 ? 1000 : 2000)
  await vi.waitUntil(async () => (await storedObjects(tenant, id)).length === 1, { timeout: 60_000 })
})

it('an upload that was aborted is gone', async () => {
  const { tenant, id, call, start } = await makeDraftPackage()
  const { upload, part, complete } = await start({ size: 1000 })
  await part(1, randomBytes(1000))
  expect((await call('DELETE', upload)).status).toBe(204)
  const gone = { status: 404, code: 'upload.not_found' }
  expect((await call('DELETE', upload)).body).toMatchObject(gone)
  expect((await call('GET', upload)).body).toMatchObject(gone)
  expect((await part(1, randomBytes(1000))).body).toMatchObject(gone)
  expect((await complete()).body).toMatchObject(gone)
  expect(await storedObjects(tenant, id)).toEqual([])
})

it('an upload whose parts R2 has lost returns 409', async () => {
  const { start } = await makeDraftPackage()
  const { uploadId, part, complete } = await start({ size: 1000 })
  await part(1, randomBytes(1000))
  const row = await env.DB.prepare('SELECT storage_key, r2_upload_id FROM uploads WHERE id = ?')
    .bind(uploadId)
    .first<{ storage_key: string; r2_upload_id: string }>()
  await env.PACKAGES.resumeMultipartUpload(row!.storage_key, row!.r2_upload_id).abort()
  const lost = { status: 409, code: 'upload.lost' }
  expect((await part(1, randomBytes(1000))).body).toMatchObject(lost)
  expect((await complete()).body).toMatchObject(lost)
})

it('a package has at most five open uploads, and expired ones do not count', async () => {
  const { path, call, start } = await makeDraftPackage()
  const { uploadId } = await start({ size: 10 })
  for (let count = 1; count < 5; count++) await start({ size: 10 })
  const sixth = () => call('POST', `${path}/uploads`, { size: 10 })
  expect((await sixth()).body).toMatchObject({ status: 409, code: 'upload.too_many' })
  await env.DB.prepare('UPDATE uploads SET created_at = ? WHERE id = ?')
    .bind(Date.now() - UPLOAD_LIFETIME_MS - 1000, uploadId)
    .run()
  expect((await sixth()).status).toBe(201)
  expect((await call('GET', `${path}/uploads/${uploadId}`)).status).toBe(404)
})

it("another tenant's upload returns 404", async () => {
  const { start, call } = await makeDraftPackage()
  const stranger = await makeTenantWithProduct()
  const { upload } = await start({ size: 1000 })
  const answers = [
    await stranger.call('GET', upload),
    await stranger.call('DELETE', upload),
    await stranger.call('POST', `${upload}/complete`),
    await putBytes(stranger, `${upload}/parts/1`, randomBytes(1000)),
  ]
  for (const { body } of answers) expect(body).toMatchObject({ status: 404, code: 'package.not_found' })
  expect((await call('GET', upload)).status).toBe(200)
})

it('a package takes no other file while an upload is being verified', async () => {
  const { tenant, id, path, call } = await makeDraftPackage()
  await env.DB.prepare("UPDATE packages SET state = 'verifying' WHERE id = ?").bind(id).run()
  const refused = { status: 409, code: 'package.verifying' }
  expect((await putBytes(tenant, `${path}/file`, randomBytes(10))).body).toMatchObject(refused)
  expect((await call('POST', `${path}/uploads`, { size: 10 })).body).toMatchObject(refused)
})
