import { env, exports } from 'cloudflare:workers'
import { hashKey, newKey } from '../../src/auth/key.ts'
import { newId } from '../../src/common/ids.ts'
import type { Role } from '../../src/http/principal.ts'

/** Calls the API of the Worker under test with one key. */
export interface Client {
  key: string
  tenantId: string | null
  call: (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>
}

export interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
  body: any
}

/** Makes a client whose key is written straight into D1, and its tenant if there is none of this id. */
export async function makeClient(role: Role, tenantId: string | null, bridge?: string): Promise<Client> {
  const key = newKey()
  await env.DB.prepare(
    'INSERT OR IGNORE INTO tenants (id, name, created_at) SELECT ?1, ?2, ?3 WHERE ?1 IS NOT NULL',
  )
    .bind(tenantId, 'a tenant', Date.now())
    .run()
  await env.DB.prepare(
    'INSERT INTO api_keys (id, tenant_id, name, role, bridge, hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)',
  )
    .bind(newId('key'), tenantId, role, role, bridge ?? null, await hashKey(key), Date.now())
    .run()
  return { key, tenantId, call: caller(key) }
}

/** Makes a tenant and a client of it with this role. */
export async function makeTenant(role: Role = 'admin'): Promise<Client & { tenantId: string }> {
  const tenantId = newId('ten')
  return { ...(await makeClient(role, tenantId)), tenantId }
}

/** Calls with `key` as bearer token. A body that is text or a stream is sent as it is, anything else as JSON. */
export const caller =
  (key: string | undefined): Client['call'] =>
  async (method, path, body, headers = {}) => {
    const isText = typeof body === 'string' || body === undefined || body instanceof ReadableStream
    const response = await exports.default.fetch(`http://edge-ota.test${path}`, {
      method,
      headers: {
        ...(key !== undefined && { authorization: `Bearer ${key}` }),
        ...(!isText && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: isText ? (body as string) : JSON.stringify(body) }),
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json')
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
  }
