import type { Env } from '../common/env.ts'
import { conflict, notFound } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import type { Db } from '../db/client.ts'
import { recallFromTasks } from '../tasks/api/tell-tasks.ts'
import { removeLeftovers } from './leftovers.ts'
import type { Package } from './package.ts'
import { findPackage, findTasksUsing, markRecalled, type PackageRef } from './store.ts'
import { BACKUP_WAKE_MS, packageVerifier } from './verifier-stub.ts'

/**
 * Recalls a package for good: no task can be made with it, tasks that use it pause, and its file is deleted, which
 * makes every link to it dead. A draft has no file to recall: 409 `package.not_ready`. `isDone` is false if a step
 * failed; the package's verifier object then finishes the recall, and so does a repeat of the call.
 */
export async function recallPackage(
  env: Env,
  db: Db,
  ref: PackageRef,
  now: number,
): Promise<{ pkg: Package; isDone: boolean }> {
  const before = await findPackage(db, ref)
  if (!before) throw notFound('package')
  // Finishes the recall even if this process ends right after the package is marked.
  await packageVerifier(env, ref).wake(ref, BACKUP_WAKE_MS)
  const pkg = await markRecalled(db, ref, now)
  if (!pkg) {
    throw (await findPackage(db, ref))
      ? conflict('package.not_ready', 'The package is a draft: it has no file to recall, and can be deleted.')
      : notFound('package')
  }
  try {
    await finishRecall(env, db, ref)
    return { pkg, isDone: true }
  } catch (error) {
    logError('package.recall_unfinished', { packageId: pkg.id, ...errorFields(error) })
    return { pkg, isDone: false }
  }
}

/**
 * Does what is left of a recall, if the package is recalled; may be repeated at any time. Tells the tasks first, so
 * that no device is sent a dead link. If a task cannot be told, the file is deleted all the same and this throws.
 */
export async function finishRecall(env: Env, db: Db, ref: PackageRef): Promise<void> {
  const pkg = await findPackage(db, ref)
  if (pkg?.state !== 'recalled') return
  const untold = await recallFromTasks(env, await findTasksUsing(db, pkg), pkg.id)
  await removeLeftovers(db, env.PACKAGES, ref)
  if (untold.length > 0) throw new Error(`${untold.length} tasks could not be told of the recall`)
}
