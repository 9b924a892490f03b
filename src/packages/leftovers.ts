import type { Db } from '../db/client.ts'
import { dropParts } from './multipart.ts'
import { storagePrefix } from './storage-key.ts'
import { findPackage, type PackageRef } from './store.ts'
import { deleteUpload, listUploads } from './upload-store.ts'

/**
 * Removes from the bucket what a package no longer needs: everything if it is deleted or recalled, everything but its
 * file if it is ready. A draft's objects stay, since an upload may be about to use them. May be repeated at any time.
 */
export async function removeLeftovers(db: Db, bucket: R2Bucket, ref: PackageRef): Promise<void> {
  const pkg = await findPackage(db, ref)
  if (pkg && pkg.state !== 'ready' && pkg.state !== 'recalled') return
  const kept = pkg?.state === 'ready' ? pkg.storageKey : null
  for (const upload of await listUploads(db, ref)) {
    if (upload.state === 'open') await dropParts(bucket, upload)
    await deleteUpload(db, { ...ref, uploadId: upload.id })
  }
  let cursor: string | undefined
  do {
    const listed = await bucket.list({ prefix: storagePrefix(ref), ...(cursor && { cursor }) })
    const keys = listed.objects.map(({ key }) => key).filter((key) => key !== kept)
    if (keys.length > 0) await bucket.delete(keys)
    cursor = listed.truncated ? listed.cursor : undefined
  } while (cursor !== undefined)
}
