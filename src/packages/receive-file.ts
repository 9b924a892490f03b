import { conflict, invalid, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { type RawBody, storeBody } from './body.ts'
import type { Package } from './package.ts'
import { httpMetadata, newStorageKey } from './storage-key.ts'
import { findPackage, makeReady, type PackageRef } from './store.ts'

export interface IncomingFile {
  body: RawBody
  filename: string | null
  /** What the client says the digest is, lower-case hex. */
  sha256: string | undefined
}

/**
 * Streams a draft's file into the bucket under a key of its own and makes the package ready. Whatever else
 * happens (cut off, wrong digest, another upload was first), the package stays as it was and the object goes.
 * API.md: `PUT /api/v1/packages/{id}/file`.
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
  // Where this throws, nobody knows whether it was written: then the object stays, since a package may need it.
  const ready = await makeReady(db, ref, { storageKey, size: body.length, sign, filename })
  if (!ready) {
    await discard(bucket, storageKey)
    throw noDraft(await findPackage(db, ref))
  }
  return ready
}

/** What cannot be deleted now goes with the package's leftovers; the client hears of its own fault, not of this. */
async function discard(bucket: R2Bucket, storageKey: string): Promise<void> {
  await bucket
    .delete(storageKey)
    .catch((error) => console.error(JSON.stringify({ code: 'discard', error: `${error}` })))
}

/** Why a package takes no file now. */
export function noDraft(pkg: Package | undefined) {
  if (!pkg) return notFound('package')
  if (pkg.state === 'recalled') return conflict('package.recalled', 'The package was recalled.')
  return pkg.state === 'ready'
    ? conflict('package.ready', 'The package is ready: it never changes again.')
    : conflict('package.verifying', 'An upload of the package is being verified.')
}
