import { env } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import { readPackages } from '../../../src/tasks/database/packages.ts'
import { makeClient } from '../api.ts'
import {
  makeDraft,
  makeTenantWithProduct,
  putBytes,
  randomBytes,
  storedObjects,
  type Tenant,
} from './packages-fixture.ts'

const post = ({ call, productId }: Tenant, fields: object) =>
  call('POST', '/api/v1/packages', { productId, name: 'firmware', version: 'v1', ...fields })

/** Inserts a task that names the package into D1. */
async function useInTask({ tenantId, productId }: Tenant, packageId: string): Promise<void> {
  await env.DB.prepare(
    `INSERT INTO tasks (id, tenant_id, product_id, package_ids, module, target_version, name, selection, policy,
       status, start_at, rank, counts, created_at)
     VALUES (?, ?, ?, ?, 'default', 'v1', 'a task', '"all"', '{}', 'running', 0, '0', '{}', 0)`,
  )
    .bind(`tsk_of_${packageId}`, tenantId, productId, JSON.stringify(['pkg_other', packageId]))
    .run()
}

it('an operator makes a draft of a package, and the API shows it', async () => {
  const tenant = await makeTenantWithProduct()
  const made = await post(tenant, { name: ' firmware ', version: ' v1.1.0 ' })
  expect(made.status).toBe(201)
  expect(made.body).toEqual({
    id: expect.stringMatching(/^pkg_/),
    productId: tenant.productId,
    name: 'firmware',
    description: null,
    module: 'default',
    version: 'v1.1.0',
    kind: 'full',
    sourceVersion: null,
    signMethod: 'SHA256',
    extData: null,
    state: 'draft',
    error: null,
    size: null,
    sign: null,
    sha256: null,
    securityCounter: 0,
    signature: null,
    filename: null,
    recalledAt: null,
    createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
  })
  expect((await tenant.call('GET', `/api/v1/packages/${made.body.id}`)).body).toEqual(made.body)
})

it('the API keeps what the operator entered for a differential package', async () => {
  const tenant = await makeTenantWithProduct()
  const fields = {
    module: 'MCU',
    version: 'v2',
    kind: 'diff',
    sourceVersion: 'v1',
    signMethod: 'MD5',
    description: 'from v1 only',
    extData: { key1: 'value1', nested: { list: [1, null, true] } },
  }
  const made = await post(tenant, fields)
  expect(made.body).toMatchObject(fields)
  expect((await tenant.call('GET', `/api/v1/packages/${made.body.id}`)).body).toEqual(made.body)
})

it('a module has one full package for each version, and one differential package for each source version', async () => {
  const tenant = await makeTenantWithProduct()
  const diff = { kind: 'diff', sourceVersion: 'v0' }
  for (const fields of [{}, { module: 'MCU' }, { version: 'v2' }, diff, { ...diff, sourceVersion: 'v0.9' }]) {
    expect((await post(tenant, fields)).status).toBe(201)
    expect((await post(tenant, fields)).body).toMatchObject({ status: 409, code: 'package.exists' })
  }
  expect((await post(await makeTenantWithProduct(), {})).status).toBe(201)
})

it.each([
  ['a version of 500 characters', { version: 'v'.repeat(500) }, 'version'],
  ['an empty version', { version: '  ' }, 'version'],
  ['no version', { version: undefined }, 'version'],
  ['a version that is a number', { version: 1 }, 'version'],
  ['a long module', { module: 'm'.repeat(65) }, 'module'],
  ['a long name', { name: 'n'.repeat(129) }, 'name'],
  ['a long description', { description: 'd'.repeat(1025) }, 'description'],
  ['an unknown kind', { kind: 'delta' }, 'kind'],
  ['an unknown sign method', { signMethod: 'SHA1' }, 'signMethod'],
  ['a diff without its source', { kind: 'diff' }, 'sourceVersion'],
  ['a diff from itself', { kind: 'diff', sourceVersion: ' v1' }, 'sourceVersion'],
  ['a full package with a source', { sourceVersion: 'v0' }, 'sourceVersion'],
  ['the reserved key', { extData: { _package_udi: 'x' } }, 'extData'],
  ['more than 8 KiB of extData', { extData: { key: 'ä'.repeat(4096) } }, 'extData'],
  ['extData that is a list', { extData: [1] }, 'extData'],
  ['an unknown field', { state: 'ready' }, 'state'],
])('a package with %s is refused, and the field is named', async (_, fields, path) => {
  const refused = await post(await makeTenantWithProduct(), fields)
  expect(refused.headers.get('content-type')).toBe('application/problem+json')
  expect(refused.body).toMatchObject({ status: 422, code: 'request.invalid', errors: [{ path }] })
})

it('a package may have extData of exactly 8 KiB', async () => {
  const extData = { k: 'x'.repeat(8192 - '{"k":""}'.length) }
  expect((await post(await makeTenantWithProduct(), { extData })).status).toBe(201)
})

it('packages are listed by product, name and state, page by page', async () => {
  const tenant = await makeTenantWithProduct()
  const first = await makeDraft(tenant, { name: 'Gateway 100%' })
  const second = await makeDraft(tenant)
  const third = await makeDraft(tenant)
  await putBytes(tenant, `/api/v1/packages/${second}/file`, randomBytes(10))
  const ids = async (query: string) => {
    const { body } = await tenant.call('GET', `/api/v1/packages?${query}`)
    return body.items.map(({ id }: { id: string }) => id)
  }
  expect(await ids('')).toEqual([first, second, third])
  expect(await ids('name=gateway+100%25')).toEqual([first])
  expect(await ids('name=100_')).toEqual([])
  expect(await ids('state=ready')).toEqual([second])
  expect(await ids(`productId=${tenant.productId}&state=draft`)).toEqual([first, third])
  expect(await ids('productId=prd_other')).toEqual([])
  const page = await tenant.call('GET', '/api/v1/packages?limit=2')
  expect(await ids(`cursor=${page.body.nextCursor}`)).toEqual([third])
  expect((await tenant.call('GET', '/api/v1/packages?state=gone')).body.errors[0].path).toBe('state')
})

it("another tenant's package and product return 404", async () => {
  const owner = await makeTenantWithProduct()
  const stranger = await makeTenantWithProduct()
  const id = await makeDraft(owner)
  const path = `/api/v1/packages/${id}`
  const gone = { status: 404, code: 'package.not_found' }
  expect((await stranger.call('GET', path)).body).toMatchObject(gone)
  expect((await stranger.call('DELETE', path)).body).toMatchObject(gone)
  expect((await putBytes(stranger, `${path}/file`, randomBytes(10))).body).toMatchObject(gone)
  expect((await stranger.call('POST', `${path}/uploads`, { size: 10 })).body).toMatchObject(gone)
  expect((await stranger.call('GET', '/api/v1/packages')).body.items).toEqual([])
  const productId = owner.productId
  const refused = await stranger.call('POST', '/api/v1/packages', { productId, name: 'f', version: 'v9' })
  expect(refused.body).toMatchObject({ status: 404, code: 'product.not_found' })
  expect((await owner.call('GET', path)).status).toBe(200)
})

it('a viewer may read packages, but not make, change or delete them', async () => {
  const tenant = await makeTenantWithProduct()
  const id = await makeDraft(tenant)
  const viewer = { ...(await makeClient('viewer', tenant.tenantId)), productId: tenant.productId }
  expect((await viewer.call('GET', `/api/v1/packages/${id}`)).status).toBe(200)
  expect((await post(viewer as Tenant, {})).status).toBe(403)
  expect((await viewer.call('DELETE', `/api/v1/packages/${id}`)).status).toBe(403)
  expect((await putBytes(viewer, `/api/v1/packages/${id}/file`, randomBytes(10))).status).toBe(403)
  expect((await viewer.call('POST', `/api/v1/packages/${id}/uploads`, { size: 10 })).status).toBe(403)
})

it('a package is deleted with its file and its open uploads', async () => {
  const tenant = await makeTenantWithProduct()
  const { call } = tenant
  const id = await makeDraft(tenant)
  const path = `/api/v1/packages/${id}`
  const { uploadId } = (await call('POST', `${path}/uploads`, { size: 10 })).body
  await putBytes(tenant, `${path}/file`, randomBytes(10))
  expect(await storedObjects(tenant, id)).toHaveLength(1)
  expect((await call('DELETE', path)).status).toBe(204)
  expect((await call('GET', path)).status).toBe(404)
  expect((await call('DELETE', path)).status).toBe(404)
  expect((await call('GET', `${path}/uploads/${uploadId}`)).body.code).toBe('package.not_found')
  await vi.waitUntil(async () => (await storedObjects(tenant, id)).length === 0, { timeout: 60_000 })
  const uploads = await env.DB.prepare('SELECT id FROM uploads WHERE package_id = ?').bind(id).all()
  expect(uploads.results).toEqual([])
})

it('a package that a task uses cannot be deleted', async () => {
  const tenant = await makeTenantWithProduct()
  const id = await makeDraft(tenant)
  await putBytes(tenant, `/api/v1/packages/${id}/file`, randomBytes(10))
  await useInTask(tenant, id)
  const refused = await tenant.call('DELETE', `/api/v1/packages/${id}`)
  expect(refused.body).toMatchObject({ status: 409, code: 'package.in_use' })
  expect(await storedObjects(tenant, id)).toHaveLength(1)
})

it('a task reads only packages that are ready and of its own tenant', async () => {
  const tenant = await makeTenantWithProduct()
  const stranger = await makeTenantWithProduct()
  const [ready, draft, foreign] = [
    await makeDraft(tenant),
    await makeDraft(tenant),
    await makeDraft(stranger),
  ]
  await putBytes(tenant, `/api/v1/packages/${ready}/file`, randomBytes(10))
  await putBytes(stranger, `/api/v1/packages/${foreign}/file`, randomBytes(10))
  const loaded = await readPackages(env, tenant.tenantId, [ready])
  expect(loaded).toMatchObject([{ id: ready, size: 10, extData: null }])
  for (const [id, code] of [
    [draft, 'package.not_ready'],
    [foreign, 'package.not_found'],
    ['pkg_none', 'package.not_found'],
  ] as const) {
    await expect(readPackages(env, tenant.tenantId, [ready, id])).rejects.toMatchObject({ code })
  }
  expect(loaded[0]!.storageKey).toMatch(`packages/${tenant.tenantId}/${ready}/`)
})

it('the OpenAPI document has the nine paths of packages', async () => {
  const { call } = await makeTenantWithProduct()
  const { paths } = (await call('GET', '/openapi.json')).body
  expect(Object.keys(paths).filter((path) => path.startsWith('/api/v1/packages'))).toHaveLength(9)
})
