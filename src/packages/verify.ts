import type { Env } from '../common/env.ts'
import type { Db } from '../db/client.ts'
import { whyNotSigned } from './check-signature.ts'
import { readWhole } from './digests.ts'
import type { PackageRef } from './store.ts'
import { endVerifying, failVerifying, findCompletedUpload } from './upload-store.ts'

/**
 * Reads the completed upload of a package once and makes the package ready, or a draft again with the reason. Does
 * nothing if the package is not being verified; may be repeated at any time.
 */
export async function verifyPackage(
  env: Pick<Env, 'DB' | 'PACKAGES'>,
  db: Db,
  ref: PackageRef,
): Promise<void> {
  const bucket = env.PACKAGES
  const found = await findCompletedUpload(db, ref)
  if (!found) return
  const { upload, pkg } = found
  const { signMethod } = pkg
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
  const digests = await readWhole(object.body, object.size, { methods: [signMethod, 'SHA256'] })
  const file = { size: upload.size, sign: digests[signMethod]!, sha256: digests.SHA256! }
  if (upload.sha256 && file.sha256 !== upload.sha256) {
    return fail(`The file's SHA-256 is ${file.sha256}, not ${upload.sha256}.`)
  }
  // No signature is set while the package is being verified.
  const fault = await whyNotSigned(env.DB, pkg, file)
  if (fault) return fail(`The signature is not valid: ${fault.message}.`)
  const signatureVerifiedAt = pkg.signature === null ? null : Date.now()
  const { storageKey, filename } = upload
  await endVerifying(db, ref, { ...file, storageKey, filename, signatureVerifiedAt })
}

/** Ends a verification that failed too often for reasons other than the file; the package is a draft again. */
export async function giveUpVerifying(db: Db, bucket: R2Bucket, ref: PackageRef): Promise<void> {
  const found = await findCompletedUpload(db, ref)
  if (!found) return
  await failVerifying(db, ref, found.upload, 'The file could not be verified. Please upload it again.')
  await bucket.delete(found.upload.storageKey)
}
