import { conflict, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { dropParts } from './multipart.ts'
import { findPackage } from './store.ts'
import { deleteOpenUpload, findUpload, type UploadRef } from './upload-store.ts'

/** Ends an open upload and drops its parts. 409 `upload.completed` if its file is already being verified. */
export async function abortUpload(db: Db, bucket: R2Bucket, ref: UploadRef): Promise<void> {
  const [pkg, upload] = await Promise.all([findPackage(db, ref), findUpload(db, ref)])
  if (!pkg) throw notFound('package')
  if (!upload) throw notFound('upload')
  if (!(await deleteOpenUpload(db, ref))) {
    throw conflict('upload.completed', 'The upload is complete: it can no longer be aborted.')
  }
  await dropParts(bucket, upload)
  // R2 may hold the whole object: a completing request may have ended before it reached the database.
  await bucket.delete(upload.storageKey)
}
