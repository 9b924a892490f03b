import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import { caller, makeTenant } from '../api.ts'

it('a product can be made, shown, changed and deleted', async () => {
  const { call } = await makeTenant()
  const made = await call('POST', '/api/v1/products', { name: ' Lamp ', description: '' })
  expect(made.status).toBe(201)
  expect(made.body).toEqual({
    id: expect.stringMatching(/^prd_/),
    name: 'Lamp',
    description: '',
    bridge: 'default',
    defaultModuleParam: null,
    notifyCancel: false,
    downloads: null,
    signingName: 'Lamp',
    requireSignature: false,
    frozen: false,
    frozenAt: null,
    createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
  })
  const path = `/api/v1/products/${made.body.id}`
  expect((await call('GET', path)).body).toEqual(made.body)
  const changes = {
    description: null,
    bridge: 'eu',
    defaultModuleParam: 'default',
    notifyCancel: true,
    downloads: 'worker',
  }
  expect((await call('PATCH', path, changes)).body).toEqual({ ...made.body, ...changes })
  expect((await call('PATCH', path, {})).body).toMatchObject(changes)
  expect((await call('PATCH', path, { downloads: null })).body.downloads).toBeNull()
  expect((await call('DELETE', path)).status).toBe(204)
  expect((await call('GET', path)).body.code).toBe('product.not_found')
})

it('an invalid product is refused with the fields that are wrong', async () => {
  const { call } = await makeTenant()
  const make = async (body: unknown) => (await call('POST', '/api/v1/products', body)).body
  expect(await make({})).toMatchObject({
    status: 422,
    code: 'request.invalid',
    errors: [{ path: 'name', message: expect.any(String) }],
  })
  const long = await make({ name: 'p', description: 'x'.repeat(1025) })
  expect(long.errors).toEqual([{ path: 'description', message: 'must be at most 1024 characters' }])
  expect((await make({ name: 'x'.repeat(129) })).errors[0].message).toContain('128')
  expect((await make({ name: ' ' })).status).toBe(422)
  expect((await make({ name: 'a\u0007b' })).status).toBe(422)
  expect((await make({ name: 'p', bridge: 'a/b' })).errors[0].path).toBe('bridge')
  expect((await make({ name: 'p', downloads: 'ftp' })).errors[0].path).toBe('downloads')
  expect((await make({ name: 'p', nmae: 'p' })).status).toBe(422)
  expect((await make([])).status).toBe(422)
  expect((await make('{"name": ')).status).toBe(415)
  const json = { 'content-type': 'application/json' }
  expect((await call('POST', '/api/v1/products', '{"name": ', json)).body).toMatchObject({
    status: 400,
    code: 'request.malformed',
  })
  const product = await make({ name: 'p' })
  expect((await call('PATCH', `/api/v1/products/${product.id}`, { frozen: true })).status).toBe(422)
  expect((await call('PATCH', `/api/v1/products/${product.id}`, { name: null })).status).toBe(422)
})

it('a list of products is read page by page with its cursor', async () => {
  const { call } = await makeTenant()
  for (const name of ['a', 'b', 'c', 'd', 'e']) await call('POST', '/api/v1/products', { name })
  const seen: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const { body } = await call('GET', `/api/v1/products?limit=2${cursor && `&cursor=${cursor}`}`)
    expect(body.items.length).toBeLessThanOrEqual(2)
    seen.push(...body.items.map((item: { name: string }) => item.name))
    cursor = body.nextCursor
  }
  expect(seen.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e'])
  for (const limit of ['0', '201', 'x', '', '1.5']) {
    expect((await call('GET', `/api/v1/products?limit=${limit}`)).status, limit).toBe(422)
  }
})

it("another tenant's product returns 404 for every call", async () => {
  const [ours, theirs] = [await makeTenant(), await makeTenant()]
  const product = await theirs.call('POST', '/api/v1/products', { name: 'p' })
  const path = `/api/v1/products/${product.body.id}`
  expect((await ours.call('GET', path)).status).toBe(404)
  expect((await ours.call('PATCH', path, { name: 'q' })).status).toBe(404)
  expect((await ours.call('DELETE', path)).status).toBe(404)
  expect((await ours.call('POST', `${path}/freeze`)).status).toBe(404)
  expect((await ours.call('POST', `${path}/unfreeze`)).status).toBe(404)
  expect((await ours.call('GET', '/api/v1/products')).body.items).toEqual([])
  expect((await theirs.call('GET', path)).body).toEqual(product.body)
})

it('freezing or unfreezing a product twice is the same as once', async () => {
  const { call } = await makeTenant()
  const { body } = await call('POST', '/api/v1/products', { name: 'p' })
  const first = await call('POST', `/api/v1/products/${body.id}/freeze`)
  expect(first.body).toMatchObject({ frozen: true, frozenAt: expect.any(String) })
  expect((await call('POST', `/api/v1/products/${body.id}/freeze`)).body).toEqual(first.body)
  expect((await call('POST', `/api/v1/products/${body.id}/unfreeze`)).body).toEqual(body)
  expect((await call('POST', `/api/v1/products/${body.id}/unfreeze`)).body).toEqual(body)
})

it('a product that still has devices, packages or tasks cannot be deleted', async () => {
  const { call, tenantId } = await makeTenant()
  const { body } = await call('POST', '/api/v1/products', { name: 'p' })
  const path = `/api/v1/products/${body.id}`
  const device = await call('POST', '/api/v1/devices', { productId: body.id, number: '1' })
  expect((await call('DELETE', path)).body).toMatchObject({ status: 409, code: 'product.in_use' })
  await call('DELETE', `/api/v1/devices/${device.body.id}`)
  await env.DB.prepare(
    `INSERT INTO packages (id, tenant_id, product_id, name, module, version, kind, sign_method, state, created_at)
     VALUES (?1, ?2, ?3, 'n', 'default', '1', 'full', 'SHA256', 'draft', 0)`,
  )
    .bind(newId('pkg'), tenantId, body.id)
    .run()
  expect((await call('DELETE', path)).body.code).toBe('product.in_use')
  await env.DB.prepare('DELETE FROM packages').run()
  expect((await call('DELETE', path)).status).toBe(204)
})

it('a repeated POST returns the first answer, and its Idempotency-Key is refused for another request', async () => {
  const { call } = await makeTenant()
  const key = { 'idempotency-key': 'order-1' }
  const first = await call('POST', '/api/v1/products', { name: 'p' }, key)
  const again = await call('POST', '/api/v1/products', { name: 'p' }, key)
  expect(again).toMatchObject({ status: 201, body: first.body })
  expect(again.headers.get('content-type')).toBe(first.headers.get('content-type'))
  expect((await call('GET', '/api/v1/products')).body.items).toHaveLength(1)
  const other = await call('POST', '/api/v1/products', { name: 'q' }, key)
  expect(other.body).toMatchObject({ status: 409, code: 'idempotency.conflict' })
  const freeze = `/api/v1/products/${first.body.id}/freeze`
  const frozen = await call('POST', freeze, undefined, { 'idempotency-key': 'f' })
  expect(await call('POST', freeze, undefined, { 'idempotency-key': 'f' })).toMatchObject({
    body: frozen.body,
  })
  const long = { 'idempotency-key': 'k'.repeat(256) }
  expect((await call('POST', '/api/v1/products', { name: 'p' }, long)).status).toBe(422)
})

it('a POST that comes several times at once with one Idempotency-Key is done once', async () => {
  const { call } = await makeTenant()
  const send = () => call('POST', '/api/v1/products', { name: 'p' }, { 'idempotency-key': 'at-once' })
  const answers = await Promise.all([send(), send(), send(), send()])
  for (const { status, body } of answers)
    expect(status === 201 || body.code).toBeOneOf([true, 'idempotency.in_flight'])
  expect((await call('GET', '/api/v1/products')).body.items).toHaveLength(1)
})

it('a failure is repeated under its Idempotency-Key too, and the stored answers cannot be read from the database', async () => {
  const { call } = await makeTenant()
  const key = { 'idempotency-key': 'k' }
  const { body: product } = await call('POST', '/api/v1/products', { name: 'p' })
  const missing = { productId: 'prd_none', number: '1' }
  const failed = await call('POST', '/api/v1/devices', missing, key)
  expect(failed.status).toBe(404)
  const failedAgain = await call('POST', '/api/v1/devices', missing, key)
  expect(failedAgain).toMatchObject({ status: 404, body: failed.body })
  expect(failedAgain.headers.get('content-type')).toBe('application/problem+json')

  const device = { productId: product.id, number: '1' }
  const made = await call('POST', '/api/v1/devices', device, { 'idempotency-key': 'device' })
  const again = await call('POST', '/api/v1/devices', device, { 'idempotency-key': 'device' })
  expect(again.body.accessToken).toBe(made.body.accessToken)
  const rows = await env.DB.prepare('SELECT * FROM idempotent_answers').all()
  expect(JSON.stringify(rows.results)).not.toContain(made.body.accessToken)
})

it('a repeat may take over after a minute from a request that was cut off', async () => {
  const { call } = await makeTenant()
  const key = { 'idempotency-key': 'cut-off' }
  await call('POST', '/api/v1/products', { name: 'p' }, key)
  const set = (claimedAt: number) =>
    env.DB.prepare('UPDATE idempotent_answers SET status = NULL, body = NULL, claimed_at = ?')
      .bind(claimedAt)
      .run()
  await set(Date.now() - 30_000)
  const waiting = await call('POST', '/api/v1/products', { name: 'p' }, key)
  expect(waiting.body).toMatchObject({ status: 409, code: 'idempotency.in_flight' })
  expect(waiting.headers.get('retry-after')).toBe('5')
  await set(Date.now() - 61_000)
  expect((await call('POST', '/api/v1/products', { name: 'p' }, key)).status).toBe(201)
})

it('answers stored for an Idempotency-Key are forgotten after a day', async () => {
  const { call } = await makeTenant()
  for (const key of ['1', '2', '3']) {
    await call('POST', '/api/v1/products', { name: key }, { 'idempotency-key': key })
  }
  await env.DB.prepare('UPDATE idempotent_answers SET created_at = created_at - 86400001').run()
  const fresh = await call('POST', '/api/v1/products', { name: 'other' }, { 'idempotency-key': '1' })
  expect(fresh).toMatchObject({ status: 201, body: { name: 'other' } })
  const left = await env.DB.prepare('SELECT count(*) AS n FROM idempotent_answers').first<number>('n')
  expect(left).toBe(1)
})

it('the server has a health check, an OpenAPI document and a page that shows it', async () => {
  const anyone = caller(undefined)
  expect((await anyone('GET', '/healthz')).body).toEqual({ status: 'ok' })
  const { body: document } = await anyone('GET', '/openapi.json')
  expect(document.openapi).toBe('3.1.0')
  expect(Object.keys(document.paths)).toContain('/api/v1/devices/{id}/rotate-token')
  const page = await anyone('GET', '/docs')
  expect(page.headers.get('content-type')).toContain('text/html')
  expect(page.body).toContain('/api/v1/devices/{id}/rotate-token')
  expect(page.body).not.toMatch(/<script|src="http|href="http/)
  expect((await anyone('GET', '/nowhere')).body).toMatchObject({ status: 404, code: 'route.not_found' })
})

it('a JSON body that is too large is refused', async () => {
  const { call } = await makeTenant()
  const body = JSON.stringify({ name: 'x'.repeat(9 * 1024 * 1024) })
  const json = { 'content-type': 'application/json' }
  for (const sent of [body, new Blob([body]).stream()]) {
    const answer = await call('POST', '/api/v1/products', sent, json)
    expect(answer.body).toMatchObject({ status: 413, code: 'request.too_large' })
  }
  const id = 'x'.repeat(3 * 1024 * 1024)
  expect((await call('POST', '/api/v1/devices', { productId: id, number: '1' })).status).toBe(422)
})
