import type { Env } from '../common/env.ts'
import { conflict, forbidden, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { wakeTasksOfProduct } from '../tasks/api/tell-tasks.ts'
import { type Product, signingNameOf } from './product.ts'
import { findProduct, type ProductChanges, updateProduct, whyUnchanged } from './store.ts'

/**
 * Changes a product. How its firmware is signed is for admins alone: a 403 for anybody else, unless nothing of that would
 * change. 409 `product.signing_name_fixed` once the product has a key: signatures and devices have the old name in them.
 * 409 `product.topics_taken` if its devices' numbers are topics of others on the new bridge.
 */
export async function changeProduct(
  env: Env,
  db: Db,
  { tenantId, productId }: { tenantId: string; productId: string },
  { signingName, requireSignature, ...changes }: ProductChanges,
  isAdmin: boolean,
): Promise<Product> {
  const before = await findProduct(db, tenantId, productId)
  if (!before) throw notFound('product')
  // What stays as it is, is not written: it may be another admin's latest word by then.
  const name = signingNameOf(before)
  const isNamed = signingName !== undefined && signingName !== (isAdmin ? before.signingName : name)
  // Without one of its own it follows the product's name, which others than admins may change.
  const isToStay = changes.name !== undefined && !isAdmin
  const signing: ProductChanges = {
    ...(isNamed && { signingName }),
    ...(requireSignature !== undefined &&
      requireSignature !== before.requireSignature && { requireSignature }),
  }
  const changesSigning = Object.keys(signing).length > 0
  if (changesSigning && !isAdmin) throw forbidden('Only an admin changes how firmware is signed.')
  const pinned = isToStay && before.signingName === null ? { signingName: name } : {}
  const product = await updateProduct(db, tenantId, productId, { ...changes, ...pinned, ...signing })
  if (!product) {
    const why = await whyUnchanged(db, tenantId, productId, signing)
    if (why === 'not found') throw notFound('product')
    if (why === 'signing name fixed') {
      throw conflict(
        'product.signing_name_fixed',
        'The product has a signing key: its signing name is fixed.',
      )
    }
    throw conflict(
      'product.topics_taken',
      "Other devices of the shared bridge have numbers of this product's devices as their topics.",
    )
  }
  // They look again by themselves, but not at once; that a signature is required they read before each page of notices.
  // Also if nothing changed: a repeat reaches those that a first call missed.
  if (isAdmin && (requireSignature !== undefined || signingName !== undefined)) {
    await wakeTasksOfProduct(env, productId, [])
  }
  return product
}
