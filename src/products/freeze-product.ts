import type { Env } from '../common/env.ts'
import { notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { freezeTasksOfProduct } from '../tasks/api/tell-tasks.ts'
import type { Product } from './product.ts'
import { setFrozen } from './store.ts'

/**
 * The emergency stop (PROTOCOL.md, 4). First the flag, which every task reads before each page of notices; then the
 * tasks, for the page that one of them is about to send. What a bridge holds by then it publishes within 5 s or gives
 * back. Where not every task could be told, the product is frozen all the same, but a page may still be on its way.
 */
export async function freezeProduct(
  env: Env,
  db: Db,
  ref: { tenantId: string; productId: string },
  now: number,
): Promise<{ product: Product; isDone: boolean }> {
  const product = await setFrozen(db, ref.tenantId, ref.productId, now)
  if (!product) throw notFound('product')
  try {
    const untold = await freezeTasksOfProduct(env, product.id)
    return { product, isDone: untold.length === 0 }
  } catch (error) {
    console.error(
      JSON.stringify({ code: 'product.freeze_unfinished', product: product.id, error: `${error}` }),
    )
    return { product, isDone: false }
  }
}
