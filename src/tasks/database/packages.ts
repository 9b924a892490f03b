import type { Env } from '../../common/env.ts'
import { AppError, type FieldError, invalid, notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { findPackage, loadPackages, type ReadyPackage } from '../../packages/store.ts'
import type { TaskPackage } from '../rules/task.ts'

/**
 * The packages that a task names, in its order. 404 for one that the tenant has not, 409 for one without a file or
 * recalled, 422 where they are not packages of one upgrade: each fault names its `packageIds.N`.
 */
export async function readPackages(env: Env, tenantId: string, ids: string[]): Promise<ReadyPackage[]> {
  const db = openDb(env.DB)
  const ready = new Map((await loadPackages(db, tenantId, ids)).map((pkg) => [pkg.id, pkg]))
  for (const [index, packageId] of ids.entries()) {
    if (ready.has(packageId)) continue
    const pkg = await findPackage(db, { tenantId, packageId })
    const errors = [{ path: `packageIds.${index}`, message: whyNot(pkg?.state) }]
    if (!pkg) throw notFound('package', errors)
    throw pkg.state === 'recalled'
      ? new AppError(409, 'package.recalled', 'The package was recalled.', { errors })
      : new AppError(409, 'package.not_ready', 'The package has no file yet.', { errors })
  }
  const packages = ids.map((id) => ready.get(id)!)
  const faults = faultsOf(packages)
  if (faults.length > 0) throw invalid(faults)
  return packages
}

const whyNot = (state: string | undefined) =>
  state === undefined ? 'no such package' : state === 'recalled' ? 'was recalled' : 'has no file yet'

/** What keeps packages from being those of one upgrade: differential ones and at most one full one. */
export function faultsOf(packages: readonly ReadyPackage[]): FieldError[] {
  const [first] = packages
  return packages.flatMap((pkg, index) => {
    const earlier = packages.slice(0, index)
    const message = earlier.some(({ id }) => id === pkg.id)
      ? 'must not be named twice'
      : pkg.productId !== first!.productId
        ? 'must be of the same product as the first'
        : pkg.module !== first!.module
          ? 'must be for the same module as the first'
          : pkg.version !== first!.version
            ? 'must be of the same version as the first'
            : earlier.some((other) => sourceOf(other) === sourceOf(pkg))
              ? pkg.kind === 'full'
                ? 'must not be a second full package'
                : 'must not start from the same version as another'
              : null
    return message === null ? [] : [{ path: `packageIds.${index}`, message }]
  })
}

const sourceOf = ({ kind, sourceVersion }: Pick<ReadyPackage, 'kind' | 'sourceVersion'>) =>
  kind === 'diff' ? sourceVersion : null

export const toTaskPackage = (pkg: ReadyPackage): TaskPackage => ({
  id: pkg.id,
  version: pkg.version,
  size: pkg.size,
  signMethod: pkg.signMethod,
  sign: pkg.sign,
  module: pkg.module,
  isDiff: pkg.kind === 'diff',
  sourceVersion: sourceOf(pkg),
  extData: pkg.extData,
  storageKey: pkg.storageKey,
})
