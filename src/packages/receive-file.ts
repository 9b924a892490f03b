import { conflict, invalid, notFound } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import type { Db } from '../db/client.ts'
import { type RawBody, storeBody } from './body.ts'
import type { Package } from './package.ts'
import { httpMetadata, newStorageKey } from './storage-key.ts'
import { findPackage, makeReady, type PackageRef } from './store.ts'

export interface IncomingFile {
  body: RawBody
  filename: string | null
  /** The digest that the client expects, lower-case hex. */
  sha256: string | undefined
}

/**
 * Streams a draft's file into the bucket under a new key and makes the package ready. If the body is cut off, the
 * digest is wrong, or another upload was first, the package stays as it was and the object is deleted.
 */
export async function receiveFile(
  db: Db,
  bucket: R2Bucket,
  pkg: Package,
  { body, filename, sha256 }: IncomingFile,
): Promise<Package> {
  const { signMethod } = pkg
  const ref: PackageRef = { tenantId: pkg.tenantId, packageId: pkg.id }
  const storageKey = newStorageKey(ref)
  let sign: string
  try {
    const { digests } = await storeBody(body, sha256 ? [signMethod, 'SHA256'] : [signMethod], (whole) =>
      bucket.put(storageKey, whole, { httpMetadata: httpMetadata(filename) }),
    )
    if (sha256 && digests.SHA256 !== sha256) {
      const message = `the file's SHA-256 is ${digests.SHA256}`
      throw invalid(
        [{ path: 'x-content-sha256', message }],
        'The file does not have the digest that was sent.',
      )
    }
    sign = digests[signMethod]!
  } catch (error) {
    await discard(bucket, storageKey)
    throw error
  }
  // If this throws, the row may or may not be written: the object stays, since the package may need it.
  const ready = await makeReady(db, ref, { storageKey, size: body.length, sign, filename })
  if (!ready) {
    await discard(bucket, storageKey)
    throw notDraftError(await findPackage(db, ref))
  }
  return ready
}

/** A failure here is only logged, so that the client gets its own error; `removeLeftovers` deletes the object later. */
async function discard(bucket: R2Bucket, storageKey: string): Promise<void> {
  await bucket.delete(storageKey).catch((error) => logError('package.file_not_discarded', errorFields(error)))
}

/** The error for a package that is not a draft and so takes no file. */
export function notDraftError(pkg: Package | undefined) {
  if (!pkg) return notFound('package')
  if (pkg.state === 'recalled') return conflict('package.recalled', 'The package was recalled.')
  return pkg.state === 'ready'
    ? conflict('package.ready', 'The package is ready: it never changes again.')
    : conflict('package.verifying', 'An upload of the package is being verified.')
}
