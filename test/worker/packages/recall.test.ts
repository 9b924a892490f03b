import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it, onTestFinished, vi } from 'vitest'
import { newStorageKey } from '../../../src/packages/storage-key.ts'
import { packageVerifier } from '../../../src/packages/verifier-stub.ts'
import { UpgradeTask } from '../../../src/tasks/object/task-object.ts'
import { makeClient } from '../api.ts'
import { type Lab, type LabDevice, makeLab, over, progresses, reports, requests } from '../lab.ts'
import { taken } from '../lab-bridge.ts'
import { moveClock, until } from '../lab-clock.ts'
import {
  makeDraft,
  makeTenantWithProduct,
  putBytes,
  randomBytes,
  storedObjects,
  type Tenant,
  whenVerified,
} from './packages-fixture.ts'

async function makeReady(tenant: Tenant): Promise<string> {
  const id = await makeDraft(tenant)
  expect((await putBytes(tenant, `/api/v1/packages/${id}/file`, randomBytes(10))).status).toBe(200)
  return id
}

const recall = ({ call }: Pick<Tenant, 'call'>, id: string) => call('POST', `/api/v1/packages/${id}/recall`)

const tenantOf = ({ admin, productId }: Lab): Tenant => ({ ...admin, productId })

/** The status that D1 has of a task, which lists show. */
const statusInD1 = (taskId: string) =>
  env.DB.prepare('SELECT status FROM tasks WHERE id = ?').bind(taskId).first<string>('status')

it("a recall deletes the package's file and shows the time of the recall", async () => {
  const tenant = await makeTenantWithProduct()
  const id = await makeReady(tenant)
  const path = `/api/v1/packages/${id}`
  const before = (await tenant.call('GET', path)).body
  expect(before.recalledAt).toBeNull()
  const recalled = await recall(tenant, id)
  expect(recalled.status).toBe(200)
  expect(recalled.body).toEqual({
    ...before,
    state: 'recalled',
    recalledAt: expect.stringMatching(/^\d{4}-.*Z$/),
  })
  expect(await storedObjects(tenant, id)).toEqual([])
  expect((await tenant.call('GET', path)).body).toEqual(recalled.body)
  expect((await tenant.call('GET', '/api/v1/packages?state=recalled')).body.items).toEqual([recalled.body])
  moveClock(60_000)
  expect(await recall(tenant, id)).toMatchObject({ status: 200, body: recalled.body })
  const { items } = (await tenant.call('GET', `/api/v1/audit?target=${id}&action=package.recall`)).body
  expect(items).toHaveLength(2)
})

it('a package can be recalled by operators of its own tenant, and a draft cannot be recalled', async () => {
  const tenant = await makeTenantWithProduct()
  const [id, draft] = [await makeReady(tenant), await makeDraft(tenant)]
  const viewer = await makeClient('viewer', tenant.tenantId)
  expect((await recall(viewer, id)).status).toBe(403)
  expect((await recall(await makeTenantWithProduct(), id)).body.code).toBe('package.not_found')
  expect((await recall(tenant, 'pkg_none')).body.code).toBe('package.not_found')
  expect((await recall(tenant, draft)).body).toMatchObject({ status: 409, code: 'package.not_ready' })
  expect((await tenant.call('GET', `/api/v1/packages/${id}`)).body.state).toBe('ready')
  expect((await recall(await makeClient('operator', tenant.tenantId), id)).status).toBe(200)
})

it('a recalled package takes no file', async () => {
  const tenant = await makeTenantWithProduct()
  const id = await makeDraft(tenant)
  const path = `/api/v1/packages/${id}`
  const { uploadId } = (await tenant.call('POST', `${path}/uploads`, { size: 10 })).body
  await putBytes(tenant, `${path}/file`, randomBytes(10))
  await recall(tenant, id)
  const refused = { status: 409, code: 'package.recalled' }
  expect((await putBytes(tenant, `${path}/file`, randomBytes(10))).body).toMatchObject(refused)
  expect((await tenant.call('POST', `${path}/uploads`, { size: 10 })).body).toMatchObject(refused)
  const upload = `${path}/uploads/${uploadId}`
  expect((await putBytes(tenant, `${upload}/parts/1`, randomBytes(10))).status).toBeOneOf([404, 409])
  expect((await tenant.call('POST', `${upload}/complete`)).body).toMatchObject(refused)
  expect(await storedObjects(tenant, id)).toEqual([])
})

it('no task can be made with a recalled package, and the package stays while a task uses it', async () => {
  const lab = await makeLab(1)
  const used = await lab.addPackage('v2')
  await lab.addTask(used)
  await recall(lab.admin, used)
  const refused = await lab.admin.call('POST', '/api/v1/tasks', {
    packageId: used,
    name: 't',
    devices: 'all',
  })
  expect(refused.body).toMatchObject({ status: 409, code: 'package.recalled' })
  const kept = await lab.admin.call('DELETE', `/api/v1/packages/${used}`)
  expect(kept.body).toMatchObject({ status: 409, code: 'package.in_use' })
  const unused = await lab.addPackage('v3')
  await recall(lab.admin, unused)
  expect((await lab.admin.call('DELETE', `/api/v1/packages/${unused}`)).status).toBe(204)
})

it('a recall pauses every task that uses the package, and no notice with it goes out any more', async () => {
  const lab = await makeLab(3)
  const [asks, downloads, returned] = lab.devices as [LabDevice, LabDevice, LabDevice]
  const pkg = await lab.addPackage('v2')
  const task = await lab.addTask(pkg)
  const scheduled = await lab.addTask(pkg, { startAt: new Date(Date.now() + 3600_000).toISOString() })
  await lab.push(asks)
  await lab.push(downloads)
  await lab.bridge.post([progresses(downloads, 10)])
  const { frame } = await lab.bridge.notice(returned)
  expect((await recall(lab.admin, pkg)).status).toBe(200)
  for (const each of [task, scheduled]) {
    expect(await each.get()).toMatchObject({
      status: 'paused',
      pausedReason: expect.stringContaining('recalled'),
    })
    await until('D1 has the task as paused', async () => (await statusInD1(each.id)) === 'paused')
  }
  // The bridge returns the notice that it had not published, and the devices ask in every way.
  await lab.bridge.post([taken(frame, 'returned')])
  await lab.bridge.post([reports(asks, 'v1'), requests(asks, '1'), requests(downloads, '2')])
  for (const device of lab.devices) {
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
  }
  moveClock(2 * 3600_000)
  await lab.bridge.post([])
  expect(await lab.unexpected()).toEqual([])
})

it('a second recall of the same package changes nothing in a paused task', async () => {
  const lab = await makeLab(1)
  const pkg = await lab.addPackage('v2')
  const task = await lab.addTask(pkg)
  await recall(lab.admin, pkg)
  const first = await task.get()
  await recall(lab.admin, pkg)
  expect(await task.get()).toEqual(first)
})

it('a recall leaves tasks with other packages alone', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  const recalled = await lab.addPackage('v2')
  const task = await lab.upgradeTo('v3')
  await recall(lab.admin, recalled)
  await lab.push(device)
  expect((await task.get()).status).toBe('running')
})

it('a package that is recalled during its verification stays recalled', async () => {
  const tenant = await makeTenantWithProduct()
  const packageId = await makeDraft(tenant)
  const ref = { tenantId: tenant.tenantId, packageId }
  const storageKey = newStorageKey(ref)
  const verifier = packageVerifier(env, ref)
  await env.PACKAGES.put(storageKey, randomBytes(1000))
  await env.DB.batch([
    env.DB.prepare(
      `INSERT INTO uploads (id, tenant_id, package_id, r2_upload_id, storage_key, size, part_size, state, created_at)
       VALUES (?, ?, ?, 'gone', ?, 1000, 1000, 'completed', 0)`,
    ).bind(`upl_${packageId}`, ref.tenantId, packageId, storageKey),
    env.DB.prepare("UPDATE packages SET state = 'verifying', storage_key = ? WHERE id = ?").bind(
      storageKey,
      packageId,
    ),
  ])
  // The verifier holds the file when the recall comes.
  const bucket = env.PACKAGES
  let recalled: Promise<number> | undefined
  await verifier.wake(ref, 3600_000)
  await runInDurableObject(verifier, async (object) => {
    const objectEnv = (object as unknown as { env: typeof env }).env
    const held = new Proxy(bucket, {
      get: (target, name) =>
        name === 'get'
          ? async (key: string) => {
              const stored = await target.get(key)
              recalled ??= recall(tenant, packageId).then(({ status }) => status)
              await recalled
              return stored
            }
          : Reflect.get(target, name).bind(target),
    })
    Object.assign(object, { env: { ...objectEnv, PACKAGES: held } })
  })
  await runDurableObjectAlarm(verifier)
  expect(await recalled).toBe(200)
  const answer = (await whenVerified(tenant, packageId)) as { state: string }
  expect(answer.state).toBe('recalled')
  await runDurableObjectAlarm(verifier)
  expect((await tenant.call('GET', `/api/v1/packages/${packageId}`)).body.state).toBe('recalled')
  expect(await storedObjects(tenant, packageId)).toEqual([])
})

it('a recall completes by itself if the process ended right after the package was marked', async () => {
  const lab = await makeLab(1)
  const pkg = await lab.addPackage('v2')
  const task = await lab.addTask(pkg)
  const tenant = tenantOf(lab)
  const ref = { tenantId: tenant.tenantId, packageId: pkg }
  await packageVerifier(env, ref).wake(ref, 30_000)
  await env.DB.prepare("UPDATE packages SET state = 'recalled', recalled_at = 1 WHERE id = ?").bind(pkg).run()
  await runDurableObjectAlarm(packageVerifier(env, ref))
  expect((await task.get()).status).toBe('paused')
  expect(await storedObjects(tenant, pkg)).toEqual([])
})

it('a recall that cannot reach a task returns 503, and completes when it is called again', async () => {
  const lab = await makeLab(1)
  const pkg = await lab.addPackage('v2')
  const task = await lab.addTask(pkg)
  const other = await lab.addTask(pkg, { startAt: new Date(Date.now() + 3600_000).toISOString() })
  onTestFinished(() => void vi.restoreAllMocks())
  vi.spyOn(console, 'error').mockImplementation(() => {})
  const tell = UpgradeTask.prototype.recalled
  const away = vi.spyOn(UpgradeTask.prototype, 'recalled').mockImplementation(async function (
    this: UpgradeTask,
    packageId: string,
  ) {
    if ((await this.view()).id === task.id) throw new Error('away')
    return tell.call(this, packageId)
  })
  const first = await recall(lab.admin, pkg)
  expect(first.body).toMatchObject({ status: 503, code: 'package.recall_unfinished' })
  expect(first.headers.get('retry-after')).toBe('5')
  expect((await other.get()).status).toBe('paused')
  expect(await storedObjects(tenantOf(lab), pkg)).toEqual([])
  const audited = await lab.admin.call('GET', `/api/v1/audit?target=${pkg}&action=package.recall`)
  expect(audited.body.items).toMatchObject([{ detail: { unfinished: true } }])
  away.mockRestore()
  expect((await recall(lab.admin, pkg)).status).toBe(200)
  expect((await task.get()).status).toBe('paused')
})
