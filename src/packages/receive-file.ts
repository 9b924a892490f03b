import type { Env } from '../common/env.ts'
import { conflict, invalid, notFound } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import type { Db } from '../db/client.ts'
import { type RawBody, storeBody } from './body.ts'
import { type CheckedFile, signatureInvalid, whyNotSigned } from './check-signature.ts'
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
 * Streams a draft's file into the bucket under a new key and makes the package ready. If the body is cut off, the digest
 * or the signature is wrong, or another upload was first, the package stays as it was and the object is deleted.
 */
export async function receiveFile(
  env: Pick<Env, 'DB' | 'PACKAGES'>,
  db: Db,
  pkg: Package,
  { body, filename, sha256 }: IncomingFile,
): Promise<Package> {
  const { signMethod } = pkg
  const bucket = env.PACKAGES
  const ref: PackageRef = { tenantId: pkg.tenantId, packageId: pkg.id }
  const storageKey = newStorageKey(ref)
  let checked: Package
  let file: CheckedFile
  try {
    // The SHA-256 is what signatures cover, whatever notices say.
    const { digests } = await storeBody(body, [signMethod, 'SHA256'], (whole) =>
      bucket.put(storageKey, whole, { httpMetadata: httpMetadata(filename) }),
    )
    file = { size: body.length, sign: digests[signMethod]!, sha256: digests.SHA256! }
    if (sha256 && file.sha256 !== sha256) {
      const message = `the file's SHA-256 is ${file.sha256}`
      throw invalid(
        [{ path: 'x-content-sha256', message }],
        'The file does not have the digest that was sent.',
      )
    }
    checked = await assertSigned(env, db, ref, file)
  } catch (error) {
    await discard(bucket, storageKey)
    throw error
  }
  const signatureVerifiedAt = checked.signature === null ? null : Date.now()
  // If this throws, the row may or may not be written: the object stays, since the package may need it.
  const ready = await makeReady(db, checked, { ...file, storageKey, filename, signatureVerifiedAt })
  if (ready) return ready
  await discard(bucket, storageKey)
  const now = await findPackage(db, ref)
  throw now?.state === 'draft'
    ? conflict('package.changed', 'The signature was changed just now. Send the file again.')
    : notDraftError(now)
}

/** The draft as it is by now, whose signature, if it has one, fits the file; it may have come during the upload. */
async function assertSigned(
  env: Pick<Env, 'DB'>,
  db: Db,
  ref: PackageRef,
  file: CheckedFile,
): Promise<Package> {
  const pkg = await findPackage(db, ref)
  if (pkg?.state !== 'draft') throw notDraftError(pkg)
  const fault = await whyNotSigned(env.DB, pkg, file)
  if (fault) throw signatureInvalid(fault)
  return pkg
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
