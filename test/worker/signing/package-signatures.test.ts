import { env } from 'cloudflare:workers'
import { createHash } from 'node:crypto'
import { beforeAll, expect, it } from 'vitest'
import { firmwareText } from '../../firmware-text.ts'
import { makeClient, makeTenant } from '../api.ts'
import { putBytes, storedObjects, type Tenant, whenVerified } from '../packages/packages-fixture.ts'
import { addKey, type MakerKey, makeKey } from './signing-fixture.ts'

let maker: MakerKey
let tenant: Tenant
let keyId: string
let version = 0

beforeAll(async () => {
  maker = await makeKey()
  const admin = await makeTenant()
  const { body } = await admin.call('POST', '/api/v1/products', { name: 'a lamp', signingName: 'lamp' })
  tenant = { ...admin, productId: body.id }
  keyId = await addKey(admin, body.id, maker)
})

const nextVersion = () => `v${++version}`
const bytes = (file: string) => new Uint8Array(new TextEncoder().encode(file))
const sha256 = (file: string) => createHash('sha256').update(file).digest('hex')

const create = (fields: object) =>
  tenant.call('POST', '/api/v1/packages', { productId: tenant.productId, name: 'firmware', ...fields })
const get = async (id: string) => (await tenant.call('GET', `/api/v1/packages/${id}`)).body
const putFile = (id: string, file: string) => putBytes(tenant, `/api/v1/packages/${id}/file`, bytes(file))

async function uploadInParts(id: string, file: string) {
  const uploads = `/api/v1/packages/${id}/uploads`
  const { uploadId } = (await tenant.call('POST', uploads, { size: file.length })).body
  await putBytes(tenant, `${uploads}/${uploadId}/parts/1`, bytes(file))
  expect((await tenant.call('POST', `${uploads}/${uploadId}/complete`)).status).toBe(202)
  return whenVerified(tenant, id)
}

it.each(['SHA256', 'MD5'] as const)(
  'a signature that OpenSSL made is verified with the file, also for %s',
  async (signMethod) => {
    const [v, file] = [nextVersion(), `a file for ${signMethod}`]
    const value = await maker.sign(firmwareText({ version: v, file, counter: 7 }))
    const made = await create({ version: v, signMethod, securityCounter: 7, signature: { keyId, value } })
    expect(made.status, JSON.stringify(made.body)).toBe(201)
    expect(made.body).toMatchObject({
      state: 'draft',
      securityCounter: 7,
      sha256: null,
      signature: { keyId, value, verifiedAt: null },
    })
    const put = await putFile(made.body.id, file)
    expect(put.status, JSON.stringify(put.body)).toBe(200)
    expect(put.body).toMatchObject({
      state: 'ready',
      sha256: sha256(file),
      signature: { keyId, value, verifiedAt: expect.stringMatching(/Z$/) },
    })
    expect(await get(made.body.id)).toEqual(put.body)
  },
)

it.each(['SHA256', 'MD5'] as const)(
  'an upload in parts is verified likewise, also for %s',
  async (signMethod) => {
    const [v, file] = [nextVersion(), `in parts, ${signMethod}`]
    const { id } = (await create({ version: v, signMethod })).body
    const signed = await tenant.call('PUT', `/api/v1/packages/${id}/signature`, {
      keyId,
      value: await maker.sign(firmwareText({ version: v, file })),
    })
    expect([signed.status, signed.body.signature.verifiedAt]).toEqual([200, null])
    expect(await uploadInParts(id, file)).toMatchObject({
      state: 'ready',
      error: null,
      sha256: sha256(file),
      signature: { keyId, verifiedAt: expect.stringMatching(/Z$/) },
    })
  },
)

it('a package without a signature has its SHA-256 and no signature', async () => {
  const { id } = (await create({ version: nextVersion(), signMethod: 'MD5' })).body
  expect((await putFile(id, 'unsigned')).body).toMatchObject({
    state: 'ready',
    sha256: sha256('unsigned'),
    securityCounter: 0,
    signature: null,
  })
})

it('a diff is signed with the version that it starts from', async () => {
  const [v, file] = [nextVersion(), 'a diff']
  const value = await maker.sign(firmwareText({ version: v, source: 'v0', file }))
  const made = await create({ version: v, kind: 'diff', sourceVersion: 'v0', signature: { keyId, value } })
  expect((await putFile(made.body.id, file)).status).toBe(200)
})

const FILE = 'the file'
/** What a package is, and what its signature is of. */
const WRONG: [string, object, Parameters<typeof firmwareText>[0]][] = [
  ['another version', { version: 'w2' }, { version: 'w1', file: FILE }],
  ['another module', { version: 'w3', module: 'WIFI' }, { version: 'w3', module: 'MCU', file: FILE }],
  ['another product', { version: 'w4' }, { version: 'w4', product: 'heater', file: FILE }],
  [
    "the product's name instead of its signing name",
    { version: 'w5' },
    { version: 'w5', product: 'a lamp', file: FILE },
  ],
  [
    'the full package for a diff',
    { version: 'w6', kind: 'diff', sourceVersion: 'v1' },
    { version: 'w6', file: FILE },
  ],
  ['a diff for the full package', { version: 'w7' }, { version: 'w7', source: 'v1', file: FILE }],
  [
    'another source version',
    { version: 'w8', kind: 'diff', sourceVersion: 'v2' },
    { version: 'w8', source: 'v1', file: FILE },
  ],
  ['another file of the same size', { version: 'w9' }, { version: 'w9', file: 'THE FILE' }],
  ['another size', { version: 'w10' }, { version: 'w10', file: `${FILE}!` }],
  ['a lower counter', { version: 'w11', securityCounter: 3 }, { version: 'w11', counter: 2, file: FILE }],
  ['a higher counter', { version: 'w12' }, { version: 'w12', counter: 1, file: FILE }],
  [
    'an MD5 package of another file',
    { version: 'w13', signMethod: 'MD5' },
    { version: 'w13', file: 'THE FILE' },
  ],
]

it.each(WRONG)('a signature of %s is a 422, and the package stays a draft', async (_what, pkg, signed) => {
  const value = await maker.sign(firmwareText(signed))
  const { id } = (await create({ ...pkg, signature: { keyId, value } })).body
  const { status, body } = await putFile(id, FILE)
  expect([status, body.code, body.errors[0].path]).toEqual([
    422,
    'package.signature_invalid',
    'signature.value',
  ])
  expect(await get(id)).toMatchObject({ state: 'draft', size: null, signature: { verifiedAt: null } })
  expect(await storedObjects(tenant, id)).toEqual([])
})

it.each(WRONG)(
  'in parts a signature of %s makes it a draft again, with the reason',
  async (_what, pkg, signed) => {
    const { version: v, ...more } = pkg as { version: string }
    const value = await maker.sign(firmwareText({ ...signed, version: `p${signed.version}` }))
    const { id } = (await create({ ...more, version: `p${v}`, signature: { keyId, value } })).body
    const verified = await uploadInParts(id, FILE)
    expect(verified).toMatchObject({ state: 'draft', size: null, signature: { verifiedAt: null } })
    expect(verified.error).toMatch(/^The signature is not valid: /)
    expect(await storedObjects(tenant, id)).toEqual([])
  },
)

it('the 422 names the text that the signature must be of', async () => {
  const v = nextVersion()
  const { id } = (await create({ version: v, signature: { keyId, value: await maker.sign('another text') } }))
    .body
  const { body } = await putFile(id, FILE)
  expect(body.errors[0].message).toContain(JSON.stringify(firmwareText({ version: v, file: FILE })))
})

it('a signature by another key, also one of another product, is refused', async () => {
  const other = await makeKey()
  const v = nextVersion()
  const { id } = (
    await create({
      version: v,
      signature: { keyId, value: await other.sign(firmwareText({ version: v, file: FILE })) },
    })
  ).body
  expect((await putFile(id, FILE)).body.code).toBe('package.signature_invalid')
  const product = (await tenant.call('POST', '/api/v1/products', { name: 'another' })).body.id
  const foreign = await addKey(tenant, product, other)
  const set = await tenant.call('PUT', `/api/v1/packages/${id}/signature`, {
    keyId: foreign,
    value: await other.sign(firmwareText({ version: v, file: FILE })),
  })
  expect([set.status, set.body.code, set.body.errors[0].path]).toEqual([
    422,
    'package.signature_invalid',
    'keyId',
  ])
})

it('a new signature makes good a wrong one', async () => {
  const v = nextVersion()
  const { id } = (await create({ version: v, signature: { keyId, value: await maker.sign('wrong') } })).body
  expect((await putFile(id, FILE)).status).toBe(422)
  const value = await maker.sign(firmwareText({ version: v, file: FILE }))
  expect((await tenant.call('PUT', `/api/v1/packages/${id}/signature`, { keyId, value })).status).toBe(200)
  expect((await putFile(id, FILE)).body).toMatchObject({ state: 'ready', signature: { keyId, value } })
})

it('a key that is retired before the file is complete signs nothing', async () => {
  const second = await makeKey()
  const secondId = await addKey(tenant, tenant.productId, second)
  const v = nextVersion()
  const signature = { keyId: secondId, value: await second.sign(firmwareText({ version: v, file: FILE })) }
  const { id } = (await create({ version: v, signature })).body
  await tenant.call('DELETE', `/api/v1/products/${tenant.productId}/signing-keys/${secondId}`)
  expect((await putFile(id, FILE)).body.code).toBe('package.signature_invalid')
  expect((await uploadInParts(id, FILE)).error).toMatch(/^The signature is not valid: /)
  const again = await create({ version: nextVersion(), signature })
  expect([again.status, again.body.code, again.body.errors[0].path]).toEqual([
    422,
    'package.signature_invalid',
    'signature.keyId',
  ])
})

it('a signature is for a draft only', async () => {
  const { id } = (await create({ version: nextVersion() })).body
  await putFile(id, FILE)
  const signature = { keyId, value: await maker.sign('anything') }
  const path = `/api/v1/packages/${id}/signature`
  expect((await tenant.call('PUT', path, signature)).body.code).toBe('package.ready')
  await tenant.call('POST', `/api/v1/packages/${id}/recall`)
  expect((await tenant.call('PUT', path, signature)).body.code).toBe('package.recalled')
  expect((await tenant.call('PUT', '/api/v1/packages/pkg_x/signature', signature)).status).toBe(404)
  const stranger = await makeTenant()
  const draft = (await create({ version: nextVersion() })).body.id
  expect((await stranger.call('PUT', `/api/v1/packages/${draft}/signature`, signature)).status).toBe(404)
  const viewer = await makeClient('viewer', tenant.tenantId)
  expect((await viewer.call('PUT', `/api/v1/packages/${draft}/signature`, signature)).status).toBe(403)
})

it('a package in another state by the time keeps the signature that was checked', async () => {
  const v = nextVersion()
  const value = await maker.sign(firmwareText({ version: v, file: FILE }))
  const { id } = (await create({ version: v, signature: { keyId, value } })).body
  // Another signature comes while the file does.
  const [head, tail] = [bytes(FILE).subarray(0, 3), bytes(FILE).subarray(3)]
  const wrong = await maker.sign('another text')
  const slow = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(head)
      await tenant.call('PUT', `/api/v1/packages/${id}/signature`, { keyId, value: wrong })
      controller.enqueue(tail)
      controller.close()
    },
  })
  const put = await putBytes(tenant, `/api/v1/packages/${id}/file`, slow, {
    'content-length': String(FILE.length),
  })
  expect([put.status, put.body.code]).toEqual([422, 'package.signature_invalid'])
  expect(await get(id)).toMatchObject({ state: 'draft', signature: { value: wrong } })
})

it.each([
  ['a counter below 0', { securityCounter: -1 }, 'securityCounter'],
  ['a counter beyond 2^53 − 1', { securityCounter: 2 ** 53 }, 'securityCounter'],
  ['half a counter', { securityCounter: 0.5 }, 'securityCounter'],
  [
    'a signature of 63 bytes',
    { signature: { keyId: 'sgk_x', value: btoa('x'.repeat(63)) } },
    'signature.value',
  ],
  ['a signature in hex', { signature: { keyId: 'sgk_x', value: '00'.repeat(64) } }, 'signature.value'],
  ['a signature without a key', { signature: { value: btoa('x'.repeat(64)) } }, 'signature.keyId'],
  ['an unknown key', { signature: { keyId: 'sgk_x', value: btoa('x'.repeat(64)) } }, 'signature.keyId'],
  [
    'a key that is a word of JavaScript',
    { signature: { keyId: '__proto__', value: btoa('x'.repeat(64)) } },
    'signature.keyId',
  ],
])('%s is a 422', async (_what, fields, path) => {
  const { status, body } = await create({ version: nextVersion(), ...fields })
  expect([status, body.errors?.[0].path]).toEqual([422, path])
})

it('the highest counter is kept and signed digit for digit', async () => {
  const [v, counter] = [nextVersion(), Number.MAX_SAFE_INTEGER]
  const text = firmwareText({ version: v, file: FILE, counter })
  expect(text).toMatch(/\n9007199254740991\n$/)
  const signature = { keyId, value: await maker.sign(text) }
  const { id } = (await create({ version: v, securityCounter: counter, signature })).body
  expect((await putFile(id, FILE)).body).toMatchObject({ state: 'ready', securityCounter: counter })
})

it('a signature is put once however often it is sent, and stands in the audit log', async () => {
  const { id } = (await create({ version: nextVersion() })).body
  const signature = { keyId, value: await maker.sign('anything') }
  for (let times = 0; times < 2; times++) {
    expect((await tenant.call('PUT', `/api/v1/packages/${id}/signature`, signature)).status).toBe(200)
  }
  const { items } = (await tenant.call('GET', `/api/v1/audit?target=${id}&action=package.signature`)).body
  expect(items[0].detail).toEqual(signature)
  expect(
    await env.DB.prepare('SELECT signature FROM packages WHERE id = ?').bind(id).first('signature'),
  ).toBe(signature.value)
})
