import type { Db } from '../db/client.ts'
import { readWhole } from './digests.ts'
import type { PackageRef } from './store.ts'
import { endVerifying, failVerifying, findCompletedUpload } from './upload-store.ts'

/**
 * Reads the completed upload of a package once and makes the package ready, or a draft again with the reason. Does
 * nothing if the package is not being verified; may be repeated at any time.
 */
export async function verifyPackage(db: Db, bucket: R2Bucket, ref: PackageRef): Promise<void> {
  const found = await findCompletedUpload(db, ref)
  if (!found) return
  const { upload, signMethod } = found
  const object = await bucket.get(upload.storageKey)
  if (!object) return failVerifying(db, ref, upload, 'The uploaded file is gone.')
  const fail = async (error: string) => {
    // The row first: a package in state `verifying` always has its file.
    await failVerifying(db, ref, upload, error)
    await bucket.delete(upload.storageKey)
  }
  if (object.size !== upload.size) {
    await object.body.cancel()
    return fail(`The file has ${object.size} bytes, not ${upload.size}.`)
  }
  const methods = upload.sha256 ? ([signMethod, 'SHA256'] as const) : ([signMethod] as const)
  const digests = await readWhole(object.body, object.size, { methods: [...methods] })
  if (upload.sha256 && digests.SHA256 !== upload.sha256) {
    return fail(`The file's SHA-256 is ${digests.SHA256}, not ${upload.sha256}.`)
  }
  const { storageKey, size, filename } = upload
  await endVerifying(db, ref, { storageKey, size, sign: digests[signMethod]!, filename })
}

/** Ends a verification that failed too often for reasons other than the file; the package is a draft again. */
export async function giveUpVerifying(db: Db, bucket: R2Bucket, ref: PackageRef): Promise<void> {
  const found = await findCompletedUpload(db, ref)
  if (!found) return
  await failVerifying(db, ref, found.upload, 'The file could not be verified. Please upload it again.')
  await bucket.delete(found.upload.storageKey)
}
