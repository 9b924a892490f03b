import { and, asc, eq, gt, notExists, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { devices, packages, products, tasks } from '../db/schema.ts'
import type { Product } from './product.ts'

export type ProductChanges = Partial<
  Pick<Product, 'name' | 'description' | 'bridge' | 'defaultModuleParam' | 'notifyCancel' | 'downloads'>
>

const named = (tenantId: string, id: string) => and(eq(products.id, id), eq(products.tenantId, tenantId))

export const insertProduct = (db: Db, product: Product) => db.insert(products).values(product)

export const findProduct = (db: Db, tenantId: string, id: string): Promise<Product | undefined> =>
  db.select().from(products).where(named(tenantId, id)).get()

/** One row more than `limit`, for `page`. */
export const listProducts = (db: Db, tenantId: string, limit: number, cursor = ''): Promise<Product[]> =>
  db
    .select()
    .from(products)
    .where(and(eq(products.tenantId, tenantId), gt(products.id, cursor)))
    .orderBy(asc(products.id))
    .limit(limit + 1)

/** The product as it is after the changes; undefined where the tenant has none of this id. */
export async function updateProduct(
  db: Db,
  tenantId: string,
  id: string,
  changes: ProductChanges,
): Promise<Product | undefined> {
  if (Object.values(changes).every((value) => value === undefined)) return findProduct(db, tenantId, id)
  return db.update(products).set(changes).where(named(tenantId, id)).returning().get()
}

/** Frozen since `now`, or since it was first frozen; null unfreezes. */
export const setFrozen = (
  db: Db,
  tenantId: string,
  id: string,
  now: number | null,
): Promise<Product | undefined> =>
  db
    .update(products)
    .set({ frozenAt: now === null ? null : sql`coalesce(${products.frozenAt}, ${now})` })
    .where(named(tenantId, id))
    .returning()
    .get()

/** Deletes a product that nothing belongs to, in one statement, so that nothing can come in between. */
export async function deleteUnusedProduct(
  db: Db,
  tenantId: string,
  id: string,
): Promise<'deleted' | 'in use' | 'not found'> {
  const inTable = (table: typeof devices | typeof packages | typeof tasks) =>
    db.select({ one: sql`1` }).from(table).where(eq(table.productId, products.id))
  const deleted = await db
    .delete(products)
    .where(and(named(tenantId, id), ...[devices, packages, tasks].map((table) => notExists(inTable(table)))))
    .returning({ id: products.id })
  if (deleted.length > 0) return 'deleted'
  return (await findProduct(db, tenantId, id)) ? 'in use' : 'not found'
}
