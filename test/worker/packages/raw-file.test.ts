import { exports } from 'cloudflare:workers'
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { makeClient, makeTenant } from '../api.ts'

const FILE = 'firmware\r\nv2\n'
const SHA256 = createHash('sha256').update(FILE).digest('hex')

async function makeDraft() {
  const client = await makeClient('operator', (await makeTenant()).tenantId)
  const product = await client.call('POST', '/api/v1/products', { name: 'lamp' })
  const body = { productId: product.body.id, name: 'firmware', version: 'v2' }
  const { body: pkg } = await client.call('POST', '/api/v1/packages', body)
  const at = `/api/v1/packages/${pkg.id}`
  const put = async (path: string, headers: Record<string, string>, body = FILE) => {
    const response = await exports.default.fetch(`http://edge-ota.test${at}${path}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${client.key}`, ...headers },
      body,
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const state = async () => (await client.call('GET', at)).body.state
  return { client, put, state, at, productId: product.body.id as string }
}

const notTheFile: [string, Record<string, string>][] = [
  ['a form, as `curl -F` sends it', { 'content-type': 'multipart/form-data; boundary=x' }],
  ['JSON', { 'content-type': 'application/json; charset=utf-8' }],
  ['another JSON', { 'content-type': 'application/vnd.api+JSON' }],
  ['a compressed body', { 'content-encoding': 'gzip' }],
  ['`curl -d`, which drops line ends', { 'content-type': 'application/x-www-form-urlencoded' }],
]

describe('a package gets the file itself, or a 415 that says how', () => {
  it.each(notTheFile)('%s is refused, and the package stays a draft', async (_what, headers) => {
    const { put, state } = await makeDraft()
    const { status, body } = await put('/file', headers)
    expect([status, body.code]).toEqual([415, 'upload.not_raw'])
    expect(body.detail).toContain('curl -T')
    expect(await state()).toBe('draft')
    expect((await put('/file', {})).status).toBe(200)
  })

  it.each(notTheFile)('a part of an upload likewise: %s', async (_what, headers) => {
    const { client, put, at } = await makeDraft()
    const { body } = await client.call('POST', `${at}/uploads`, { size: FILE.length })
    const path = `/uploads/${body.uploadId}/parts/1`
    expect(await put(path, headers)).toMatchObject({ status: 415, body: { code: 'upload.not_raw' } })
    expect((await put(path, { 'content-type': 'application/octet-stream' })).status).toBe(200)
  })

  it('`curl --data-binary` is taken if the digest shows that it is the file', async () => {
    const { put, state } = await makeDraft()
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'x-content-sha256': SHA256 }
    expect((await put('/file', headers, FILE.replaceAll('\n', ''))).status).toBe(422)
    expect(await state()).toBe('draft')
    expect((await put('/file', headers)).status).toBe(200)
    expect(await state()).toBe('ready')
  })

  it.each([
    ['application/octet-stream', {}],
    ['application/zip', {}],
    ['text/plain', { 'content-encoding': 'identity' }],
  ])('%s is taken', async (type, more) => {
    const { put } = await makeDraft()
    expect((await put('/file', { 'content-type': type, ...more })).status).toBe(200)
  })
})

describe('numbers of extData', () => {
  it.each(['12345678901234567890', '0.1234567890123456789', '1e400', '[1,{"deep":9007199254740993}]'])(
    '%s cannot be kept exactly, and is refused',
    async (number) => {
      const { client, productId } = await makeDraft()
      const response = await exports.default.fetch('http://edge-ota.test/api/v1/packages', {
        method: 'POST',
        headers: { authorization: `Bearer ${client.key}`, 'content-type': 'application/json' },
        body: `{"productId":"${productId}","name":"x","version":"v3","extData":{"key":${number}}}`,
      })
      const body = (await response.json()) as { errors: { path: string }[] }
      expect(response.status).toBe(422)
      expect(body.errors[0]!.path).toMatch(/^extData\.key/)
    },
  )

  it('others stay as they are', async () => {
    const { client, productId } = await makeDraft()
    const extData = { a: 9007199254740991, b: -0.1, c: 1e21, d: '12345678901234567890', e: [1.5, { f: 0 }] }
    const made = await client.call('POST', '/api/v1/packages', {
      productId,
      name: 'x',
      version: 'v3',
      extData,
    })
    expect([made.status, made.body.extData]).toEqual([201, extData])
  })
})

it('lengths count characters: 64 emoji are a version, 65 are none', async () => {
  const { client, productId } = await makeDraft()
  const make = (version: string) => client.call('POST', '/api/v1/packages', { productId, name: 'x', version })
  expect((await make('🙂'.repeat(64))).status).toBe(201)
  expect((await make('🙂'.repeat(65))).status).toBe(422)
})
