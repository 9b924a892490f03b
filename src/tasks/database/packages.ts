import { and, eq, sql } from 'drizzle-orm'
import type { Env } from '../../common/env.ts'
import { AppError, type FieldError, invalid, notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { packages } from '../../db/schema.ts'
import { inEnglish } from '../../reasons/reason.ts'
import { signatureError, signatureFault, signatureOf } from '../../signing/policy.ts'
import { readSigningPolicy } from '../../signing/store.ts'
import type { TaskPackage } from '../rules/task.ts'

type Package = typeof packages.$inferSelect
/** A package with a file, which never changes again. */
type ReadyPackage = Package & { state: 'ready'; size: number; sign: string; storageKey: string }

/**
 * The packages that a task names, in its order. Throws a 404 for a package that the tenant does not have, a 409 for one
 * that has no file or was recalled, and a 422 if they are not packages of one upgrade or lack a signature; each fault
 * names `packageIds.N`.
 */
export async function readPackages(env: Env, tenantId: string, ids: string[]): Promise<ReadyPackage[]> {
  const db = openDb(env.DB)
  const named: Package[] = await db
    .select()
    .from(packages)
    .where(
      and(
        eq(packages.tenantId, tenantId),
        sql`${packages.id} IN (SELECT value FROM json_each(${JSON.stringify(ids)}))`,
      ),
    )
  const known = new Map(named.map((pkg) => [pkg.id, pkg]))
  for (const [index, packageId] of ids.entries()) {
    const pkg = known.get(packageId)
    if (pkg?.state === 'ready') continue
    const errors = [{ path: `packageIds.${index}`, message: whyNot(pkg?.state) }]
    if (!pkg) throw notFound('package', errors)
    throw pkg.state === 'recalled'
      ? new AppError(409, 'package.recalled', 'The package was recalled.', { errors })
      : new AppError(409, 'package.not_ready', 'The package has no file yet.', { errors })
  }
  const ready = ids.map((id) => known.get(id) as ReadyPackage)
  const faults = faultsOf(ready)
  if (faults.length > 0) throw invalid(faults)
  await assertSigned(env, ready)
  return ready
}

/** 422 if the product's devices must not run one of the packages (src/signing/README.md). */
async function assertSigned(env: Env, packages: readonly ReadyPackage[]): Promise<void> {
  const policy = await readSigningPolicy(env.DB, packages[0]!.productId)
  for (const [index, pkg] of packages.entries()) {
    const fault = await signatureFault(toTaskPackage(pkg), policy)
    if (fault) throw signatureError(fault, [{ path: `packageIds.${index}`, message: inEnglish(fault) }])
  }
}

const whyNot = (state: string | undefined) =>
  state === undefined ? 'no such package' : state === 'recalled' ? 'was recalled' : 'has no file yet'

/** Why these are not the packages of one upgrade: any number of differential packages and at most one full package. */
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
  signature: signatureOf(pkg),
})
