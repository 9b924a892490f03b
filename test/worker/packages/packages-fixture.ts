import { env, exports } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { expect, vi } from 'vitest'
import { type Answer, type Client, makeTenant } from '../api.ts'

export type Tenant = Client & { tenantId: string; productId: string }

/** Makes a tenant with an admin and a product. */
export async function makeTenantWithProduct(): Promise<Tenant> {
  const client = await makeTenant()
  const { body } = await client.call('POST', '/api/v1/products', { name: 'a product' })
  return { ...client, productId: body.id }
}

let versions = 0

/** Makes a draft and returns its id. */
export async function makeDraft({ call, productId }: Tenant, fields: object = {}): Promise<string> {
  const version = `v1.0.${++versions}`
  const made = await call('POST', '/api/v1/packages', { productId, name: 'firmware', version, ...fields })
  expect(made.status).toBe(201)
  return made.body.id
}

/** PUTs raw bytes, by default with their true length. */
export async function putBytes(
  { key }: Client,
  path: string,
  body: Uint8Array<ArrayBuffer> | ReadableStream | null,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const length: Record<string, string> =
    body instanceof Uint8Array ? { 'content-length': String(body.byteLength) } : {}
  const response = await exports.default.fetch(`http://edge-ota.test${path}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${key}`, ...length, ...headers },
    body,
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text) }
}

/** Random, so that no two files are equal by chance. */
export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536))
  return bytes
}

/** Computed by Node's crypto, independently of the stream that the Worker uses. */
export const digest = (algorithm: 'sha256' | 'md5', bytes: Uint8Array) =>
  createHash(algorithm).update(bytes).digest('hex')

/** The objects that the bucket has for a package. */
export async function storedObjects({ tenantId }: Tenant, packageId: string): Promise<R2Object[]> {
  return (await env.PACKAGES.list({ prefix: `packages/${tenantId}/${packageId}/` })).objects
}

export async function storedBytes(key: string): Promise<Buffer> {
  return Buffer.from(await (await env.PACKAGES.get(key))!.arrayBuffer())
}

/** Polls until the package has left `verifying`, and returns it. */
export const whenVerified = ({ call }: Tenant, packageId: string) =>
  vi.waitUntil(
    async () => {
      const { body } = await call('GET', `/api/v1/packages/${packageId}`)
      return body.state === 'verifying' ? undefined : body
    },
    { timeout: 60_000, interval: 50 },
  )
