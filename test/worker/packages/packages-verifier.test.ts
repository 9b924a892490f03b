import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import { newStorageKey } from '../../../src/packages/storage-key.ts'
import { packageVerifier } from '../../../src/packages/verifier-stub.ts'
import { withoutTable } from '../without-table.ts'
import {
  digest,
  makeDraft,
  makeTenantWithProduct,
  randomBytes,
  storedObjects,
  whenVerified,
} from './packages-fixture.ts'

/** A package whose completed upload is in the bucket and not verified yet. `size` is the size announced. */
async function makeVerifying(bytes: Uint8Array<ArrayBuffer>, says: { size?: number } = {}) {
  const tenant = await makeTenantWithProduct()
  const packageId = await makeDraft(tenant)
  const { tenantId } = tenant
  const ref = { tenantId, packageId }
  const storageKey = newStorageKey(ref)
  await env.PACKAGES.put(storageKey, bytes)
  await env.DB.batch([
    env.DB.prepare(
      `INSERT INTO uploads (id, tenant_id, package_id, r2_upload_id, storage_key, size, part_size, state, created_at)
       VALUES (?, ?, ?, 'gone', ?, ?, 1000, 'completed', 0)`,
    ).bind(`upl_${packageId}`, tenantId, packageId, storageKey, says.size ?? bytes.byteLength),
    env.DB.prepare("UPDATE packages SET state = 'verifying', storage_key = ? WHERE id = ?").bind(
      storageKey,
      packageId,
    ),
  ])
  return { tenant, packageId, ref, storageKey, verifier: packageVerifier(env, ref) }
}

it('the verifier verifies a file although it lost its memory', async () => {
  const bytes = randomBytes(5000)
  const { tenant, packageId, ref, verifier } = await makeVerifying(bytes)
  await verifier.wake(ref, 3600_000)
  await evictDurableObject(verifier)
  expect(await runDurableObjectAlarm(packageVerifier(env, ref))).toBe(true)
  expect(await whenVerified(tenant, packageId)).toMatchObject({
    state: 'ready',
    size: 5000,
    sign: digest('sha256', bytes),
  })
})

it('a verifier that is woken again after its work changes nothing', async () => {
  const { tenant, packageId, ref, verifier } = await makeVerifying(randomBytes(5000))
  await verifier.wake(ref)
  const ready = await whenVerified(tenant, packageId)
  await verifier.wake(ref, 3600_000)
  await runDurableObjectAlarm(verifier)
  expect((await tenant.call('GET', `/api/v1/packages/${packageId}`)).body).toEqual(ready)
  expect(await storedObjects(tenant, packageId)).toHaveLength(1)
})

it('a package becomes a draft again if its uploaded file has another size or is gone', async () => {
  const other = await makeVerifying(randomBytes(5000), { size: 5001 })
  await other.verifier.wake(other.ref)
  expect(await whenVerified(other.tenant, other.packageId)).toMatchObject({
    state: 'draft',
    error: 'The file has 5000 bytes, not 5001.',
  })
  await vi.waitUntil(async () => (await storedObjects(other.tenant, other.packageId)).length === 0, {
    timeout: 60_000,
  })
  const gone = await makeVerifying(randomBytes(10))
  await env.PACKAGES.delete(gone.storageKey)
  await gone.verifier.wake(gone.ref)
  expect(await whenVerified(gone.tenant, gone.packageId)).toMatchObject({
    state: 'draft',
    error: 'The uploaded file is gone.',
  })
})

it('the verifier gives up a file after five tries that ended with the process', async () => {
  const { tenant, packageId, ref, verifier } = await makeVerifying(randomBytes(5000))
  await verifier.wake(ref, 3600_000)
  await runInDurableObject(verifier, (_, state) => state.storage.kv.put('tries', 5))
  await runDurableObjectAlarm(verifier)
  const { state, error } = await whenVerified(tenant, packageId)
  expect(state).toBe('draft')
  expect(error).toContain('could not be verified')
  expect(await storedObjects(tenant, packageId)).toEqual([])
})

it('the verifier tries again later if the database fails', async () => {
  const { tenant, packageId, ref, verifier } = await makeVerifying(randomBytes(5000))
  await verifier.wake(ref, 3600_000)
  await withoutTable('uploads', () => runDurableObjectAlarm(verifier))
  expect(await runInDurableObject(verifier, (_, state) => state.storage.getAlarm())).not.toBeNull()
  await runDurableObjectAlarm(verifier)
  expect(await whenVerified(tenant, packageId)).toMatchObject({ state: 'ready', size: 5000 })
})

it('the verifier removes files that a ready package does not need, and no file of a draft', async () => {
  const { tenant, packageId, ref, storageKey, verifier } = await makeVerifying(randomBytes(5000))
  await env.PACKAGES.put(newStorageKey(ref), 'left behind')
  await verifier.wake(ref)
  await vi.waitUntil(async () => (await storedObjects(tenant, packageId)).length === 1, { timeout: 60_000 })
  expect((await storedObjects(tenant, packageId))[0]!.key).toBe(storageKey)

  const draft = { ...ref, packageId: await makeDraft(tenant) }
  await env.PACKAGES.put(newStorageKey(draft), 'on its way')
  await packageVerifier(env, draft).wake(draft, 3600_000)
  await runDurableObjectAlarm(packageVerifier(env, draft))
  expect(await storedObjects(tenant, draft.packageId)).toHaveLength(1)
})

it('a verifier that has nothing left to do keeps nothing in its storage', async () => {
  const { ref, verifier } = await makeVerifying(randomBytes(10))
  await verifier.wake(ref, 3600_000)
  await runDurableObjectAlarm(verifier)
  const left = await runInDurableObject(verifier, (_, { storage }) => [...storage.kv.list()])
  expect(left).toEqual([])
})
