import { conflict } from '../common/errors.ts'
import type { Upload, UploadPart } from './upload.ts'

/** The multipart upload of R2 that holds the parts. */
const inBucket = (bucket: R2Bucket, { storageKey, r2UploadId }: Upload) =>
  bucket.resumeMultipartUpload(storageKey, r2UploadId)

/** Stores one part; it replaces an earlier one of that number. 409 `upload.lost` if R2 no longer has the upload. */
export async function storePart(
  bucket: R2Bucket,
  upload: Upload,
  part: number,
  body: ReadableStream,
): Promise<R2UploadedPart> {
  try {
    return await inBucket(bucket, upload).uploadPart(part, body)
  } catch (error) {
    throw isLost(error) ? uploadLost() : error
  }
}

/** Joins the parts into one object; succeeds if that was done before. 409 `upload.lost` if parts are gone. */
export async function joinParts(bucket: R2Bucket, upload: Upload, parts: UploadPart[]): Promise<void> {
  try {
    await inBucket(bucket, upload).complete(parts.map(({ part, etag }) => ({ partNumber: part, etag })))
  } catch (error) {
    // An earlier request completed it in R2 and ended before it reached the database.
    if (await bucket.head(upload.storageKey)) return
    throw isLost(error) ? uploadLost() : error
  }
}

/** Drops the parts; succeeds if R2 no longer has them. */
export async function dropParts(bucket: R2Bucket, upload: Upload): Promise<void> {
  try {
    await inBucket(bucket, upload).abort()
  } catch (error) {
    if (!isLost(error)) throw error
  }
}

/** R2 lacks the upload (10024) or one of its parts (10025): expired, aborted, or one part sent twice at once. */
const isLost = (error: unknown) => error instanceof Error && /\((10024|10025)\)/.test(error.message)

const uploadLost = () =>
  conflict('upload.lost', 'The parts are no longer what was sent: abort this upload and start another.')
