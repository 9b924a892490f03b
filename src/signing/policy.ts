import { AppError, type FieldError } from '../common/errors.ts'
import { isSignedBy, type PackageSignature, signedText } from '../protocol/firmware-signature.ts'
import { inEnglish, type Reason, reason } from '../reasons/reason.ts'

/** What a product says of signatures, as it is now. */
export interface SigningPolicy {
  isRequired: boolean
  /** Null before the product had a key. */
  signingName: string | null
  /** Its keys in force, by their ids. */
  keys: Readonly<Record<string, string>>
}

export interface SignedPackage {
  id: string
  version: string
  module: string
  /** Null for a full package. */
  sourceVersion: string | null
  size: number
  signMethod: 'SHA256' | 'MD5'
  sign: string
  /** Absent in tasks of earlier releases. */
  signature?: PackageSignature | null
}

/** The signature in a package's row whose file is complete; null if it is not signed. */
export const signatureOf = (row: {
  signature: string | null
  signatureKeyId: string | null
  sha256: string | null
  securityCounter: number
}): PackageSignature | null =>
  row.signature === null || row.signatureKeyId === null || row.sha256 === null
    ? null
    : { keyId: row.signatureKeyId, value: row.signature, sha256: row.sha256, counter: row.securityCounter }

/**
 * Why a package may not go to any device; null if it may. A signature that a package has must be valid, also where the
 * product requires none: a retired key may be in wrong hands.
 */
export async function signatureFault(
  pkg: SignedPackage,
  { isRequired, signingName, keys }: SigningPolicy,
): Promise<Reason | null> {
  const { signature, id: packageId, version } = pkg
  if (!signature) return isRequired ? reason('signature_missing', { packageId, version }) : null
  const { keyId, value, sha256 } = signature
  const publicKey = Object.hasOwn(keys, keyId) ? keys[keyId] : undefined
  if (publicKey === undefined) return reason('signature_key_retired', { packageId, version, keyId })
  const isDigestTrue = pkg.signMethod === 'MD5' || pkg.sign === sha256
  const isValid =
    isDigestTrue &&
    signingName !== null &&
    (await isSignedBy(publicKey, value, covered(pkg, signingName, signature)))
  return isValid ? null : reason('signature_wrong', { packageId, version })
}

const covered = (
  { module, version, sourceVersion, size }: SignedPackage,
  signingName: string,
  { sha256, counter }: PackageSignature,
) => ({ signingName, module, version, sourceVersion, size, sha256, counter })

/** The text that the package's signature should be of, for whoever made it of another one. */
export const expectedText = (pkg: SignedPackage, { signingName }: SigningPolicy): string =>
  pkg.signature ? signedText(covered(pkg, signingName ?? '', pkg.signature)) : ''

/** The API's code for a `signatureFault`. */
export const signatureCode = ({ code }: Reason) =>
  code === 'signature_wrong' ? 'package.signature_invalid' : 'package.signature_required'

/** The same as a 422. */
export const signatureError = (fault: Reason, errors: FieldError[] = []) =>
  new AppError(422, signatureCode(fault), `Not possible: ${inEnglish(fault)}.`, { errors })
