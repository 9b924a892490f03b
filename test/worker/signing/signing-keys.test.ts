import { env } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { expect, it } from 'vitest'
import { isSignedBy } from '../../../src/protocol/firmware-signature.ts'
import { type Client, makeClient, makeTenant } from '../api.ts'
import { addKey, makeKey } from './signing-fixture.ts'

async function makeProduct(fields: object = {}, admin?: Client & { tenantId: string }) {
  const client = admin ?? (await makeTenant())
  const { body } = await client.call('POST', '/api/v1/products', { name: 'lamp', ...fields })
  const path = `/api/v1/products/${body.id}`
  return { admin: client, id: body.id as string, path, keys: `${path}/signing-keys` }
}

const randomKey = () => Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64')

it('an admin adds a key, everybody of the tenant reads it, and its retirement keeps its first time', async () => {
  const { admin, keys, path } = await makeProduct()
  const { publicKey } = await makeKey()
  const added = await admin.call('POST', keys, { name: 'release 2026', publicKey })
  expect(added.status).toBe(201)
  expect(added.body).toEqual({
    id: expect.stringMatching(/^sgk_/),
    name: 'release 2026',
    publicKey,
    createdAt: expect.stringMatching(/Z$/),
    retiredAt: null,
  })
  const viewer = await makeClient('viewer', admin.tenantId)
  expect((await viewer.call('GET', keys)).body).toEqual({ items: [added.body], nextCursor: null })
  expect((await admin.call('DELETE', `${keys}/${added.body.id}`)).status).toBe(204)
  const [retired] = (await viewer.call('GET', keys)).body.items
  expect(retired).toEqual({ ...added.body, retiredAt: expect.stringMatching(/Z$/) })
  expect((await admin.call('DELETE', `${keys}/${added.body.id}`)).status).toBe(204)
  expect((await viewer.call('GET', keys)).body.items).toEqual([retired])
  const audit = await admin.call('GET', `/api/v1/audit?target=${path.split('/').at(-1)}`)
  const actions = audit.body.items.map(({ action, detail }: { action: string; detail: object }) => [
    action,
    detail,
  ])
  expect(actions).toEqual([
    ['product.signing_key_retire', { keyId: added.body.id }],
    ['product.signing_key_retire', { keyId: added.body.id }],
    ['product.signing_key_add', { name: 'release 2026', publicKey }],
    ['product.create', expect.anything()],
  ])
})

it('a repeated request adds one key', async () => {
  const { admin, keys } = await makeProduct()
  const body = { name: 'release', publicKey: (await makeKey()).publicKey }
  const [first, second] = [
    await admin.call('POST', keys, body, { 'idempotency-key': 'k1' }),
    await admin.call('POST', keys, body, { 'idempotency-key': 'k1' }),
  ]
  expect(second.body).toEqual(first.body)
  expect((await admin.call('GET', keys)).body.items).toHaveLength(1)
})

it('a key that the product has is a 409, and one that was retired may come back under another id', async () => {
  const { admin, keys } = await makeProduct()
  const body = { name: 'release', publicKey: (await makeKey()).publicKey }
  const { id } = (await admin.call('POST', keys, body)).body
  const again = await admin.call('POST', keys, { ...body, name: 'another name' })
  expect([again.status, again.body.code]).toEqual([409, 'signing_key.exists'])
  await admin.call('DELETE', `${keys}/${id}`)
  const back = await admin.call('POST', keys, body)
  expect(back.status).toBe(201)
  expect(back.body.id).not.toBe(id)
  const other = await makeProduct({}, admin)
  expect((await admin.call('POST', other.keys, body)).status).toBe(201)
})

it('eight keys are in force at most, also if many come at once', async () => {
  const { admin, keys } = await makeProduct()
  const add = () => admin.call('POST', keys, { name: 'key', publicKey: randomKey() })
  const added = await Promise.all(Array.from({ length: 12 }, add))
  expect(added.filter(({ status }) => status === 201)).toHaveLength(8)
  const refused = added.filter(({ status }) => status !== 201)
  expect(refused.map(({ status, body }) => [status, body.code])).toEqual(
    Array(4).fill([409, 'signing_key.limit']),
  )
  await admin.call('DELETE', `${keys}/${added.find(({ status }) => status === 201)!.body.id}`)
  expect((await add()).status).toBe(201)
  expect((await add()).status).toBe(409)
})

const point = (hex: string) => Buffer.from(hex, 'hex').toString('base64')
const zeros = (bytes: number) => '00'.repeat(bytes)

/** Points of small order, with either sign. */
const SMALL = [
  zeros(32),
  `${zeros(31)}80`,
  `01${zeros(31)}`,
  `01${zeros(30)}80`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  `ec${'ff'.repeat(30)}7f`,
]

it.each(SMALL)('under %s anybody could sign, so it is no key', async (hex) => {
  // R is the neutral element and S is 0: a signature that needs no private key.
  const forged = Buffer.from(`01${zeros(63)}`, 'hex')
  const key = await crypto.subtle.importKey('raw', Buffer.from(hex, 'hex'), 'Ed25519', false, ['verify'])
  const texts = Array.from({ length: 64 }, (_, text) => new Uint8Array([text]))
  const fits = await Promise.all(texts.map((text) => crypto.subtle.verify('Ed25519', key, forged, text)))
  expect(fits).toContain(true)
  const { admin, keys } = await makeProduct()
  const { status, body } = await admin.call('POST', keys, { name: 'key', publicKey: point(hex) })
  expect([status, body.errors?.[0].path]).toEqual([422, 'publicKey'])
  // Nor is it one if it is written into D1.
  const fields = {
    signingName: 'lamp',
    module: 'default',
    sourceVersion: null,
    size: 1,
    sha256: '',
    counter: 0,
  }
  const each = texts.map((_, n) =>
    isSignedBy(point(hex), forged.toString('base64'), { ...fields, version: `v${n}` }),
  )
  expect(await Promise.all(each)).not.toContain(true)
})

it.each([
  ['zero, written as p', point(`ed${'ff'.repeat(30)}7f`)],
  ['one, written as p + 1', point(`ee${'ff'.repeat(30)}7f`)],
  ['31 bytes', Buffer.alloc(31, 7).toString('base64')],
  ['33 bytes', Buffer.alloc(33, 7).toString('base64')],
  ['base64url', `q1-_${'A'.repeat(39)}=`],
  ['no padding', Buffer.alloc(32, 7).toString('base64').slice(0, -1)],
  ['another spelling of the same bytes', `${'A'.repeat(42)}B=`],
  ['hex', '07'.repeat(32)],
  ['a PEM', '-----BEGIN PUBLIC KEY-----'],
  ['nothing', ''],
])('%s is no key', async (_what, publicKey) => {
  const { admin, keys } = await makeProduct()
  const { status, body } = await admin.call('POST', keys, { name: 'key', publicKey })
  expect([status, body.errors?.[0].path]).toEqual([422, 'publicKey'])
  expect((await admin.call('GET', keys)).body.items).toEqual([])
})

it('who is no admin of the tenant neither adds nor retires a key', async () => {
  const { admin, keys } = await makeProduct()
  const keyId = await addKey(admin, keys.split('/')[4]!, await makeKey())
  const body = { name: 'mine', publicKey: randomKey() }
  for (const role of ['viewer', 'operator', 'bridge'] as const) {
    const thief = await makeClient(role, admin.tenantId, role === 'bridge' ? 'default' : undefined)
    expect((await thief.call('POST', keys, body)).status).toBe(403)
    expect((await thief.call('DELETE', `${keys}/${keyId}`)).status).toBe(403)
  }
  const stranger = await makeTenant()
  expect((await stranger.call('POST', keys, body)).status).toBe(404)
  expect((await stranger.call('GET', keys)).status).toBe(404)
  expect((await stranger.call('DELETE', `${keys}/${keyId}`)).body.code).toBe('product.not_found')
  const other = await makeProduct({}, admin)
  expect((await admin.call('DELETE', `${other.keys}/${keyId}`)).body.code).toBe('signing_key.not_found')
  const items = (await admin.call('GET', keys)).body.items
  expect(items.map(({ id, retiredAt }: { id: string; retiredAt: null }) => [id, retiredAt])).toEqual([
    [keyId, null],
  ])
})

it("the signing name is the product's name until it is set, and fixed by the first key", async () => {
  const { admin, path, keys } = await makeProduct({ name: 'Lamp A' })
  expect((await admin.call('GET', path)).body).toMatchObject({
    signingName: 'Lamp A',
    requireSignature: false,
  })
  expect((await admin.call('PATCH', path, { name: 'Lamp B' })).body.signingName).toBe('Lamp B')
  expect((await admin.call('PATCH', path, { signingName: 'lamp-b' })).body.signingName).toBe('lamp-b')
  expect((await admin.call('PATCH', path, { name: 'Lamp C' })).body.signingName).toBe('lamp-b')
  const keyId = await addKey(admin, path.split('/').at(-1)!, await makeKey())
  const renamed = await admin.call('PATCH', path, { signingName: 'lamp-c', name: 'Lamp D' })
  expect([renamed.status, renamed.body.code]).toEqual([409, 'product.signing_name_fixed'])
  expect((await admin.call('PATCH', path, { signingName: 'lamp-b', name: 'Lamp D' })).status).toBe(200)
  await admin.call('DELETE', `${keys}/${keyId}`)
  expect((await admin.call('PATCH', path, { signingName: 'lamp-c' })).status).toBe(409)
  expect((await admin.call('GET', path)).body).toMatchObject({ name: 'Lamp D', signingName: 'lamp-b' })
})

it('the first key fixes the name that the product has just then', async () => {
  const { admin, path } = await makeProduct({ name: `${'灯'.repeat(63)} x` })
  const name = (await admin.call('GET', path)).body.signingName
  expect(name).toBe('灯'.repeat(63))
  await addKey(admin, path.split('/').at(-1)!, await makeKey())
  await admin.call('PATCH', path, { name: 'renamed' })
  expect((await admin.call('GET', path)).body.signingName).toBe(name)
})

it('a signing name has 1 to 64 characters in one line', async () => {
  const admin = await makeTenant()
  for (const signingName of ['', ' ', 'x'.repeat(65), 'a\nb']) {
    const { status, body } = await admin.call('POST', '/api/v1/products', { name: 'lamp', signingName })
    expect([status, body.errors[0].path]).toEqual([422, 'signingName'])
  }
  const { body } = await makeProduct({ signingName: 'x'.repeat(64) }, admin).then(({ path }) =>
    admin.call('GET', path),
  )
  expect(body.signingName).toBe('x'.repeat(64))
})

it('an operator changes nothing about signatures, and everything else of the product', async () => {
  const { admin, path } = await makeProduct({ requireSignature: true, signingName: 'lamp' })
  const operator = await makeClient('operator', admin.tenantId)
  for (const changes of [{ requireSignature: false }, { signingName: 'other' }]) {
    const { status, body } = await operator.call('PATCH', path, { ...changes, description: 'changed' })
    expect([status, body.code]).toEqual([403, 'auth.forbidden'])
  }
  const allowed = { requireSignature: true, signingName: 'lamp', description: 'a lamp' }
  expect((await operator.call('PATCH', path, allowed)).status).toBe(200)
  expect((await admin.call('GET', path)).body).toMatchObject({ ...allowed })
  expect((await admin.call('PATCH', path, { requireSignature: false })).body.requireSignature).toBe(false)
})

it('a deleted product takes its keys with it, and one that is in use keeps them', async () => {
  const { admin, path, id } = await makeProduct()
  await addKey(admin, id, await makeKey())
  const count = () =>
    env.DB.prepare('SELECT count(*) FROM signing_keys WHERE product_id = ?')
      .bind(id)
      .first<number>('count(*)')
  const device = await admin.call('POST', '/api/v1/devices', { productId: id, number: 'n1' })
  expect((await admin.call('DELETE', path)).status).toBe(409)
  expect(await count()).toBe(1)
  await admin.call('DELETE', `/api/v1/devices/${device.body.id}`)
  expect((await admin.call('DELETE', path)).status).toBe(204)
  expect(await count()).toBe(0)
})

it('a signing name that is given together with another product name is kept', async () => {
  const { admin, path } = await makeProduct()
  const { status, body } = await admin.call('PATCH', path, { name: 'lamp 2', signingName: 'lamp' })
  expect([status, body.name, body.signingName]).toEqual([200, 'lamp 2', 'lamp'])
})

it('an operator who renames a product does not change what its firmware is signed for', async () => {
  for (const isNamed of [true, false]) {
    const { admin, id, path } = await makeProduct()
    if (isNamed) await admin.call('PATCH', path, { signingName: 'lamp' })
    const operator = await makeClient('operator', admin.tenantId)
    const renamed = await operator.call('PATCH', path, { name: 'other', signingName: 'lamp' })
    expect([renamed.status, renamed.body.name]).toEqual([200, 'other'])
    expect((await operator.call('PATCH', path, { name: 'third' })).body.signingName).toBe('lamp')
    await addKey(admin, id, await makeKey())
    expect((await admin.call('GET', path)).body).toMatchObject({ name: 'third', signingName: 'lamp' })
  }
})
