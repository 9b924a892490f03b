import type { Env } from '../common/env.ts'
import { notFound } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import type { Db } from '../db/client.ts'
import { freezeTasksOfProduct } from '../tasks/api/tell-tasks.ts'
import type { Product } from './product.ts'
import { setFrozen } from './store.ts'

/**
 * The emergency stop. First sets the flag, which every task reads before each page of notices; then tells the tasks,
 * so that none sends a page that it read before. A bridge publishes the notices that it already has within 5 s or
 * gives them back. `isDone` is false if a task could not be told: the product is frozen, but one page may still go out.
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
    logError('product.freeze_unfinished', { product: product.id, ...errorFields(error) })
    return { product, isDone: false }
  }
}
