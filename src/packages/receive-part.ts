import { invalid, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { type RawBody, storeBody } from './body.ts'
import { storePart } from './multipart.ts'
import { notDraftError } from './receive-file.ts'
import { findPackage } from './store.ts'
import { expectedPartSize, partCount } from './upload.ts'
import { findUpload, savePart, type UploadRef } from './upload-store.ts'

/**
 * Streams one part of an upload into the bucket; a part that is sent again replaces the earlier one. 422 if the
 * upload has no part of this number, or the body has another size than the part.
 */
export async function receivePart(
  db: Db,
  bucket: R2Bucket,
  ref: UploadRef,
  part: number,
  body: RawBody,
): Promise<{ part: number; size: number }> {
  const [pkg, upload] = await Promise.all([findPackage(db, ref), findUpload(db, ref)])
  if (!pkg) throw notFound('package')
  if (!upload) throw notFound('upload')
  if (pkg.state !== 'draft') throw notDraftError(pkg)
  const expected = expectedPartSize(upload, part)
  if (expected === undefined) {
    throw invalid([{ path: 'n', message: `the upload has parts 1 to ${partCount(upload)}` }])
  }
  if (body.length !== expected) {
    throw invalid([{ path: 'body', message: `part ${part} must have ${expected} bytes, not ${body.length}` }])
  }
  const { stored } = await storeBody(body, [], (whole) => storePart(bucket, upload, part, whole))
  const size = body.length
  if (!(await savePart(db, ref, { part, etag: stored.etag, size }))) throw notFound('upload')
  return { part, size }
}
