import { conflict } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { readSigningPolicy } from '../signing/store.ts'
import { assertKeyInForce, signatureInvalid, whyNotSigned } from './check-signature.ts'
import type { Package } from './package.ts'
import { replaceSignature } from './store.ts'

/** Was the key retired that signed this ready package? Then another one may sign the same file. */
export async function mayBeSignedAnew(d1: D1Database, pkg: Package): Promise<boolean> {
  if (pkg.state !== 'ready' || pkg.signatureKeyId === null || pkg.sha256 === null) return false
  const { keys } = await readSigningPolicy(d1, pkg.productId)
  return !Object.hasOwn(keys, pkg.signatureKeyId)
}

/**
 * Gives a ready package the signature of another key. Its file and what it is for stay as they are. Throws a 422 if the
 * signature does not fit them, and a 409 if the package was changed meanwhile.
 */
export async function signAnew(
  d1: D1Database,
  db: Db,
  pkg: Package,
  { keyId, value }: { keyId: string; value: string },
): Promise<Package> {
  await assertKeyInForce(d1, pkg.productId, keyId, 'keyId')
  const file = { size: pkg.size!, sign: pkg.sign!, sha256: pkg.sha256! }
  const fault = await whyNotSigned(d1, { ...pkg, signature: value, signatureKeyId: keyId }, file)
  if (fault !== null) throw signatureInvalid(fault)
  const signed = await replaceSignature(db, pkg, { keyId, value }, Date.now())
  if (!signed) throw conflict('package.ready', 'The package was changed at the same time.')
  return signed
}
