import type { Env } from '../../common/env.ts'
import { AppError, conflict, invalid } from '../../common/errors.ts'
import { errorFields, logError } from '../../common/log.ts'
import { lookAtFile } from '../../links/stored-file.ts'
import { readPackages, toTaskPackage } from '../database/packages.ts'
import { hasDevices, resolveDevices, selectionPages } from '../database/selection.ts'
import type { TaskView } from '../object/task-view.ts'
import type { DeviceFilter, TaskPolicy, TaskSelection, TaskSpec } from '../rules/task.ts'
import { taskStub } from './task-stub.ts'
import { toWarning, type Warning, warningsOf } from './warnings.ts'

/** What an operator asks for, validated. Times in ms. */
export interface NewTask {
  id: string
  tenantId: string
  /** At least one; differential ones and at most one full one. */
  packageIds: string[]
  name: string
  description: string | null
  startAt: number | null
  endAt: number | null
  devices: 'all' | { ids: string[] } | { numbers: string[] } | { filter: DeviceFilter }
  policy: TaskPolicy
}

const RESOLVE_PAGE_SIZE = 5000
/** Unknown devices that the 404 names; the rest is only counted. */
const MAX_NAMED = 20

/**
 * Makes a task: its object first, which writes the row in D1, so that no task is ever without its object. The same
 * id again finds the same task.
 */
export async function createTask(env: Env, task: NewTask): Promise<TaskView & { warnings: Warning[] }> {
  const { spec, listed, fileWarnings } = await resolveTask(env, task)
  const mustHaveDevices = !spec.policy.dynamic && spec.startAt === spec.createdAt
  if (mustHaveDevices && listed === null && !(await hasDevices(env.DB, spec))) {
    const detail =
      'No device matches. A task that starts now needs one, or `policy.dynamic` to wait for some.'
    throw new AppError(422, 'task.no_devices', detail)
  }
  const stub = taskStub(env, task.id)
  // Warnings count all its devices: its first notices need not wait for that.
  const counting = warningsOf(env.DB, spec, listed).catch((error) => {
    // The task is made all the same.
    logError('task.warnings_failed', { task: task.id, ...errorFields(error) })
    return { warnings: [] }
  })
  if (!(await stub.create(spec, selectionPages(listed ?? [])))) {
    throw conflict('package.not_ready', 'A package of the task was recalled or deleted meanwhile.')
  }
  const { warnings } = await counting
  return { ...(await stub.view()), warnings: [...fileWarnings, ...warnings] }
}

/** What the task would be, and the ids of the devices that it lists; null if a rule chooses them. */
export async function resolveTask(
  env: Env,
  task: NewTask,
): Promise<{ spec: TaskSpec; listed: string[] | null; fileWarnings: Warning[] }> {
  const now = Date.now()
  const packages = await readPackages(env, task.tenantId, task.packageIds)
  const looks = await Promise.all(packages.map((pkg) => lookAtFile(env.PACKAGES, pkg)))
  const { productId, module, version: targetVersion } = packages[0]!
  const startAt = Math.max(task.startAt ?? now, now)
  if (task.endAt !== null && task.endAt <= startAt) {
    throw invalid([{ path: 'endAt', message: 'must be later than startAt and now' }])
  }
  const listed = await listDevices(env, task, productId)
  const { id, tenantId, name, description, endAt, policy } = task
  const spec: TaskSpec = {
    id,
    tenantId,
    productId,
    name,
    description,
    module,
    targetVersion,
    packages: packages.map((pkg, index) => ({ ...toTaskPackage(pkg), etag: looks[index]!.etag })),
    selection: toSelection(task.devices, listed),
    policy,
    startAt,
    endAt,
    createdAt: now,
  }
  const fileWarnings = looks.flatMap(({ fault }) => (fault === null ? [] : [toWarning(fault)]))
  return { spec, listed, fileWarnings }
}

/** The listed devices' ids; null if a rule chooses them. Throws a 404 that names what is not in the product. */
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
