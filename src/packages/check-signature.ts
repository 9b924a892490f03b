import { AppError, type FieldError } from '../common/errors.ts'
import { inEnglish } from '../reasons/reason.ts'
import { expectedText, signatureFault, signatureOf } from '../signing/policy.ts'
import { readSigningPolicy } from '../signing/store.ts'
import type { Package } from './package.ts'

/** What is known of a file once it is complete. */
export interface CheckedFile {
  /** In bytes. */
  size: number
  /** By the package's `signMethod`; both in lower-case hex. */
  sign: string
  sha256: string
}

/** Why the package's signature is not that of this file; null if it is, or if the package has none. */
export async function whyNotSigned(
  db: D1Database,
  pkg: Package,
  file: CheckedFile,
): Promise<FieldError | null> {
  if (pkg.signature === null) return null
  const policy = await readSigningPolicy(db, pkg.productId)
  const { id, version, module, signMethod } = pkg
  const sourceVersion = pkg.kind === 'diff' ? pkg.sourceVersion : null
  const signature = signatureOf({ ...pkg, sha256: file.sha256 })
  const signed = { id, version, module, sourceVersion, signMethod, ...file, signature }
  const fault = await signatureFault(signed, { ...policy, isRequired: true })
  if (fault === null) return null
  // Whoever signed another text sees which one it should have been.
  const hint =
    fault.code === 'signature_wrong' ? `; it must sign ${JSON.stringify(expectedText(signed, policy))}` : ''
  return { path: 'signature.value', message: inEnglish(fault) + hint }
}

/** 422: the draft stays one. */
export const signatureInvalid = (fault: FieldError) =>
  new AppError(422, 'package.signature_invalid', 'The signature is not valid: the package stays a draft.', {
    errors: [fault],
  })

/** 422 if the product has no such key in force: nothing that it signs could become ready. */
export async function assertKeyInForce(
  db: D1Database,
  productId: string,
  keyId: string,
  path: string,
): Promise<void> {
  const { keys } = await readSigningPolicy(db, productId)
  if (Object.hasOwn(keys, keyId)) return
  throw signatureInvalid({ path, message: 'is no key of the product, or was retired' })
}
