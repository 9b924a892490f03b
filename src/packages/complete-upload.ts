import type { Env } from '../common/env.ts'
import { invalid, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { joinParts } from './multipart.ts'
import { notDraftError } from './receive-file.ts'
import { findPackage } from './store.ts'
import { missingParts } from './upload.ts'
import { findUpload, listParts, startVerifying, type UploadRef } from './upload-store.ts'
import { BACKUP_WAKE_MS, packageVerifier } from './verifier-stub.ts'

const MAX_NAMED_PARTS = 20

/**
 * Joins the parts into one object and starts its verification. A repeat goes on where an earlier call stopped, also
 * between R2's completion and the database's.
 */
export async function completeUpload(db: Db, env: Env, ref: UploadRef): Promise<void> {
  const [pkg, upload] = await Promise.all([findPackage(db, ref), findUpload(db, ref)])
  if (!pkg) throw notFound('package')
  if (!upload)
    throw pkg.state === 'ready' || pkg.state === 'recalled' ? notDraftError(pkg) : notFound('upload')
  const verifier = packageVerifier(env, ref)
  if (pkg.state === 'verifying' && pkg.storageKey === upload.storageKey) return verifier.wake(ref)
  if (pkg.state !== 'draft') throw notDraftError(pkg)

  const parts = await listParts(db, upload.id)
  const missing = missingParts(upload, parts)
  if (missing.length > 0) throw partsMissingError(missing)
  await joinParts(env.PACKAGES, upload, parts)
  await verifier.wake(ref, BACKUP_WAKE_MS)
  if (!(await startVerifying(db, ref, upload))) {
    const now = await findPackage(db, ref)
    const isRepeat = now?.state === 'verifying' && now.storageKey === upload.storageKey
    if (!isRepeat) {
      if (now?.storageKey !== upload.storageKey) await env.PACKAGES.delete(upload.storageKey)
      throw now?.state === 'draft' ? notFound('upload') : notDraftError(now)
    }
  }
  await verifier.wake(ref)
}

function partsMissingError(missing: number[]) {
  const errors = missing
    .slice(0, MAX_NAMED_PARTS)
    .map((part) => ({ path: `parts.${part}`, message: `part ${part} is missing` }))
  return invalid(errors, `${missing.length} parts are missing.`)
}
