import { conflict } from '../common/errors.ts'
import type { Upload, UploadPart } from './upload.ts'

/** R2's multipart upload behind ours. */
const inBucket = (bucket: R2Bucket, { storageKey, r2UploadId }: Upload) =>
  bucket.resumeMultipartUpload(storageKey, r2UploadId)

/** Stores one part, in place of an earlier one of that number. 409 `upload.lost` where R2 forgot the upload. */
export async function putPart(
  bucket: R2Bucket,
  upload: Upload,
  part: number,
  body: ReadableStream,
): Promise<R2UploadedPart> {
  try {
    return await inBucket(bucket, upload).uploadPart(part, body)
  } catch (error) {
    throw isLost(error) ? lost() : error
  }
}

/** Makes the parts one object; fine where that was done before. 409 `upload.lost` where parts are gone. */
export async function assemble(bucket: R2Bucket, upload: Upload, parts: UploadPart[]): Promise<void> {
  try {
    await inBucket(bucket, upload).complete(parts.map(({ part, etag }) => ({ partNumber: part, etag })))
  } catch (error) {
    // A request before this one got so far, and no further.
    if (await bucket.head(upload.storageKey)) return
    throw isLost(error) ? lost() : error
  }
}

/** Drops the parts; fine where R2 forgot them already. */
export async function abort(bucket: R2Bucket, upload: Upload): Promise<void> {
  try {
    await inBucket(bucket, upload).abort()
  } catch (error) {
    if (!isLost(error)) throw error
  }
}

/** R2 does not know the upload (10024) or one of its parts (10025): expired, aborted, or a part sent twice at once. */
const isLost = (error: unknown) => error instanceof Error && /\((10024|10025)\)/.test(error.message)

const lost = () =>
  conflict('upload.lost', 'The parts are no longer what was sent: abort this upload and start another.')
