import { conflict } from '../common/errors.ts'
import { newId } from '../common/ids.ts'
import type { Db } from '../db/client.ts'
import { dropParts } from './multipart.ts'
import { notDraftError } from './receive-file.ts'
import { httpMetadata, newStorageKey } from './storage-key.ts'
import { findPackage, type PackageRef } from './store.ts'
import { MAX_OPEN_UPLOADS, partSizeFor, UPLOAD_LIFETIME_MS, type Upload } from './upload.ts'
import { deleteOpenUpload, insertUpload, listUploadsBefore } from './upload-store.ts'

interface NewUpload {
  /** In bytes. */
  size: number
  sha256: string | null
  filename: string | null
}

/** Opens an upload in parts for a draft. 409 `upload.too_many` if `MAX_OPEN_UPLOADS` of the package are open. */
export async function startUpload(
  db: Db,
  bucket: R2Bucket,
  ref: PackageRef,
  file: NewUpload,
  now: number,
): Promise<Upload> {
  const pkg = await findPackage(db, ref)
  if (pkg?.state !== 'draft') throw notDraftError(pkg)
  await forgetExpired(db, bucket, ref, now)
  const storageKey = newStorageKey(ref)
  const { uploadId } = await bucket.createMultipartUpload(storageKey, {
    httpMetadata: httpMetadata(file.filename),
  })
  const upload: Upload = {
    id: newId('upl'),
    ...ref,
    ...file,
    r2UploadId: uploadId,
    storageKey,
    partSize: partSizeFor(file.size),
    state: 'open',
    createdAt: now,
  }
  if (await insertUpload(db, upload)) return upload
  await dropParts(bucket, upload)
  const after = await findPackage(db, ref)
  if (after?.state !== 'draft') throw notDraftError(after)
  throw conflict(
    'upload.too_many',
    `The package has ${MAX_OPEN_UPLOADS} open uploads: complete or abort one.`,
  )
}

async function forgetExpired(db: Db, bucket: R2Bucket, ref: PackageRef, now: number): Promise<void> {
  for (const upload of await listUploadsBefore(db, ref, now - UPLOAD_LIFETIME_MS)) {
    if (await deleteOpenUpload(db, { ...ref, uploadId: upload.id })) await dropParts(bucket, upload)
  }
}
