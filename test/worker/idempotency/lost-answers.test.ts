import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { type Client, caller as makeCaller, makeClient, makeTenant } from '../api.ts'
import { newPublicKey } from '../openapi/fixture.ts'

// D1 does what it is asked, and its answer is lost. Who then sends the request again under its key makes nothing twice.

type Statement = D1PreparedStatement & { sql: string }

/** A database that does the first statement that fits, and loses its answer. */
function losesAnswerOf(pattern: RegExp): D1Database {
  let isLost = false
  const real = new WeakMap<object, D1PreparedStatement>()
  const answer = async <T>(sql: string, work: Promise<T>): Promise<T> => {
    const value = await work
    if (isLost || !pattern.test(sql)) return value
    isLost = true
    throw new Error('D1_ERROR: Network connection lost.')
  }
  const statement = (sql: string, inner: D1PreparedStatement): Statement => {
    const made = {
      sql,
      bind: (...values: unknown[]) => statement(sql, inner.bind(...values)),
      first: () => answer(sql, inner.first()),
      run: () => answer(sql, inner.run()),
      all: () => answer(sql, inner.all()),
      raw: () => answer(sql, inner.raw()),
    } as unknown as Statement
    real.set(made, inner)
    return made
  }
  return {
    prepare: (sql: string) => statement(sql, env.DB.prepare(sql)),
    batch: (statements: Statement[]) =>
      answer(
        statements.map(({ sql }) => sql).join(';'),
        env.DB.batch(statements.map((each) => real.get(each)!)),
      ),
  } as unknown as D1Database
}

async function post({ key }: Client, path: string, body: unknown, DB: D1Database) {
  const context = createExecutionContext()
  const request = new Request(`http://edge-ota.test${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'idempotency-key': `once ${path}`,
    },
    body: JSON.stringify(body),
  })
  const { status, body: text } = await app.fetch(request, { ...env, DB } as never, context)
  const read = await new Response(text).json()
  await waitOnExecutionContext(context)
  return { status, body: read as Record<string, string> }
}

const webhook = { url: 'https://hooks.example.com/ota', events: ['bridge.away'] }
const cases: [string, Record<string, unknown>, RegExp][] = [
  ['/api/v1/products', { name: 'lamp' }, /insert into "products"/i],
  ['/api/v1/keys', { name: 'k', role: 'viewer' }, /insert into "api_keys"/i],
  ['/api/v1/devices', { number: 'n1' }, /insert into devices/i],
  ['/api/v1/packages', { name: 'f', version: 'v1' }, /insert into packages/i],
  ['/api/v1/webhooks', webhook, /insert into webhooks/i],
  ['/api/v1/products/{id}/signing-keys', { name: 'k' }, /insert into signing_keys/i],
  ['/api/v1/tenants', { name: 'lost and found' }, /insert into "tenants"/i],
]

it.each(cases)(
  '%s makes one thing if the answer is lost and the request is sent again',
  async (at, fields, insert) => {
    const admin = await makeTenant()
    const productId = (await admin.call('POST', '/api/v1/products', { name: 'p' })).body.id
    const client = at === '/api/v1/tenants' ? await makeClient('root', null) : admin
    const path = at.replace('{id}', productId)
    const body = {
      ...fields,
      ...(/devices|packages/.test(at) && { productId }),
      ...(at.endsWith('signing-keys') && { publicKey: await newPublicKey() }),
    }
    const count = async () => (await client.call('GET', `${path}?limit=200`)).body.items.length
    const before = await count()
    const first = await post(client, path, body, losesAnswerOf(insert))
    const again = await post(client, path, body, env.DB)
    expect([first.status, again.status, (await count()) - before]).toEqual([503, 201, 1])
    const { key, accessToken } = again.body
    if (key) expect((await makeCaller(key)('GET', '/api/v1/products')).status).toBe(200)
    if (accessToken) {
      const { body: device } = await client.call('GET', `/api/v1/devices/${again.body.id}`)
      expect(device.accessToken).toBe(accessToken)
    }
  },
)
