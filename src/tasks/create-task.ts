import { openDb } from '../db/client.ts'
import type { Env } from '../env.ts'
import { AppError, conflict, invalid, notFound } from '../errors.ts'
import { findPackage, loadPackages, type ReadyPackage } from '../packages/store.ts'
import { selectionPages } from './enrol.ts'
import { resolveDevices } from './store.ts'
import type { DeviceFilter, TaskPackage, TaskPolicy, TaskSelection, TaskSpec } from './task.ts'
import { taskStub } from './task-stub.ts'
import type { TaskView } from './task-view.ts'

/** What an operator asks for, validated. Times in ms. */
export interface NewTask {
  id: string
  tenantId: string
  packageId: string
  name: string
  description: string | null
  startAt: number | null
  endAt: number | null
  devices: 'all' | { ids: string[] } | { numbers: string[] } | { filter: DeviceFilter }
  policy: TaskPolicy
}

const RESOLVE_PAGE_SIZE = 5000
/** Unknown devices that the answer names; the rest is only counted. */
const MAX_NAMED = 20

/**
 * Makes a task: its object first, which writes the row in D1, so that no task is ever without its object. The same
 * id again finds the same task.
 */
export async function createTask(env: Env, task: NewTask): Promise<TaskView> {
  const now = Date.now()
  const pkg = await readyPackage(env, task)
  const startAt = Math.max(task.startAt ?? now, now)
  if (task.endAt !== null && task.endAt <= startAt) {
    throw invalid([{ path: 'endAt', message: 'must be later than startAt and now' }])
  }
  const listed = await listDevices(env, task, pkg.productId)
  const spec: TaskSpec = {
    id: task.id,
    tenantId: task.tenantId,
    productId: pkg.productId,
    name: task.name,
    description: task.description,
    package: toTaskPackage(pkg),
    selection: toSelection(task.devices, listed),
    policy: task.policy,
    startAt,
    endAt: task.endAt,
    createdAt: now,
  }
  const stub = taskStub(env, task.id)
  if (!(await stub.create(spec, selectionPages(listed ?? [])))) throw notFound('package')
  return stub.view()
}

async function readyPackage(env: Env, { tenantId, packageId }: NewTask): Promise<ReadyPackage> {
  const db = openDb(env.DB)
  const [pkg] = await loadPackages(db, tenantId, [packageId])
  if (pkg) return pkg
  if (!(await findPackage(db, { tenantId, packageId }))) throw notFound('package')
  throw conflict('package.not_ready', 'The package has no file yet.')
}

/** The listed devices' ids; null where the task takes them by a rule. 404 names what is not in the product. */
async function listDevices(
  env: Env,
  { tenantId, devices }: NewTask,
  productId: string,
): Promise<string[] | null> {
  if (devices === 'all' || 'filter' in devices) return null
  const [by, values] =
    'ids' in devices ? (['id', devices.ids] as const) : (['number', devices.numbers] as const)
  const found = new Map<string, string>()
  for (let at = 0; at < values.length; at += RESOLVE_PAGE_SIZE) {
    const page = values.slice(at, at + RESOLVE_PAGE_SIZE)
    for (const { id, value } of await resolveDevices(env.DB, { tenantId, productId }, by, page))
      found.set(value, id)
  }
  const unknown = values.flatMap((value, index) => (found.has(value) ? [] : [index]))
  if (unknown.length > 0) {
    const errors = unknown.slice(0, MAX_NAMED).map((index) => ({
      path: `devices.${by}s.${index}`,
      message: 'no such device in the product',
    }))
    throw new AppError(404, 'device.not_found', `${unknown.length} of the devices are not in the product.`, {
      errors,
    })
  }
  return [...found.values()]
}

const toSelection = (devices: NewTask['devices'], listed: string[] | null): TaskSelection =>
  listed !== null
    ? { listed: new Set(listed).size }
    : typeof devices === 'object' && 'filter' in devices
      ? { filter: devices.filter }
      : { all: true }

const toTaskPackage = (pkg: ReadyPackage): TaskPackage => ({
  id: pkg.id,
  version: pkg.version,
  size: pkg.size,
  signMethod: pkg.signMethod,
  sign: pkg.sign,
  module: pkg.module,
  isDiff: pkg.kind === 'diff',
  sourceVersion: pkg.kind === 'diff' ? pkg.sourceVersion : null,
  extData: pkg.extData,
  storageKey: pkg.storageKey,
})
