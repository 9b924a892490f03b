import { and, asc, eq, exists, gt, not, notExists, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { devices, packages, products, signingKeys, tasks } from '../db/schema.ts'
import { numberIsTaken } from '../hub/scope.ts'
import type { Product } from './product.ts'

export type ProductChanges = Partial<
  Pick<
    Product,
    | 'name'
    | 'description'
    | 'bridge'
    | 'defaultModuleParam'
    | 'notifyCancel'
    | 'downloads'
    | 'signingName'
    | 'requireSignature'
  >
>

const isProduct = (tenantId: string, id: string) => and(eq(products.id, id), eq(products.tenantId, tenantId))

/** Returns the product as it is now: a repeat finds what was made before. */
export async function insertProduct(db: Db, product: Product): Promise<Product> {
  const { tenantId, id } = product
  await db.insert(products).values(product).onConflictDoNothing({ target: products.id })
  return (await findProduct(db, tenantId, id)) ?? product
}

export const findProduct = (db: Db, tenantId: string, id: string): Promise<Product | undefined> =>
  db.select().from(products).where(isProduct(tenantId, id)).get()

/** Returns up to `limit + 1` rows, as `page` needs. */
export const listProducts = (db: Db, tenantId: string, limit: number, cursor = ''): Promise<Product[]> =>
  db
    .select()
    .from(products)
    .where(and(eq(products.tenantId, tenantId), gt(products.id, cursor)))
    .orderBy(asc(products.id))
    .limit(limit + 1)

/**
 * Returns the changed product; undefined if the tenant has no product of this id or `whyUnchanged` has another cause.
 */
export async function updateProduct(
  db: Db,
  tenantId: string,
  id: string,
  changes: ProductChanges,
): Promise<Product | undefined> {
  if (Object.values(changes).every((value) => value === undefined)) return findProduct(db, tenantId, id)
  const { bridge, signingName } = changes
  return db
    .update(products)
    .set(changes)
    .where(
      and(
        isProduct(tenantId, id),
        bridge === undefined ? undefined : isFreeOn(bridge),
        signingName === undefined ? undefined : not(uses(db, signingKeys)),
      ),
    )
    .returning()
    .get()
}

/**
 * Why `updateProduct` changed nothing: the product is gone, its signing name is fixed by a key, also by a retired one, or
 * other tenants' devices have numbers of its devices as their topics on the new bridge.
 */
export async function whyUnchanged(
  db: Db,
  tenantId: string,
  id: string,
  { signingName }: ProductChanges,
): Promise<'not found' | 'topics taken' | 'signing name fixed'> {
  if (!(await findProduct(db, tenantId, id))) return 'not found'
  if (signingName === undefined) return 'topics taken'
  const keys = await db
    .select({ id: signingKeys.id })
    .from(signingKeys)
    .where(eq(signingKeys.productId, id))
    .limit(1)
  return keys.length > 0 ? 'signing name fixed' : 'topics taken'
}

/** Whether the product may be on this bridge: it is there already, or no number of its devices is taken there. */
const isFreeOn = (bridge: string) => sql`(${products.bridge} = ${bridge} OR NOT EXISTS (
  SELECT 1 FROM devices d CROSS JOIN (SELECT ${products.tenantId} AS tenant_id, ${bridge} AS bridge) p
  WHERE d.product_id = ${products.id} AND ${sql.raw(numberIsTaken('d.number'))}))`

/** Freezes the product at `now`, or unfreezes it if `now` is null. A repeated freeze keeps the first time. */
export const setFrozen = (
  db: Db,
  tenantId: string,
  id: string,
  now: number | null,
): Promise<Product | undefined> =>
  db
    .update(products)
    .set({ frozenAt: now === null ? null : sql`coalesce(${products.frozenAt}, ${now})` })
    .where(isProduct(tenantId, id))
    .returning()
    .get()

/** Has the product rows in this table? */
const uses = (db: Db, table: typeof devices | typeof packages | typeof tasks | typeof signingKeys) =>
  exists(db.select({ one: sql`1` }).from(table).where(eq(table.productId, products.id)))

/**
 * Deletes a product without devices, packages and tasks, and its keys; one statement, so that none can be created between
 * check and delete.
 */
export async function deleteUnusedProduct(
  db: Db,
  tenantId: string,
  id: string,
): Promise<'deleted' | 'in use' | 'not found'> {
  const isUnused = and(not(uses(db, devices)), not(uses(db, packages)), not(uses(db, tasks)))
  const [deleted] = await db.batch([
    db
      .delete(products)
      .where(and(isProduct(tenantId, id), isUnused))
      .returning({ id: products.id }),
    db
      .delete(signingKeys)
      .where(
        and(
          eq(signingKeys.productId, id),
          eq(signingKeys.tenantId, tenantId),
          notExists(db.select({ one: sql`1` }).from(products).where(eq(products.id, id))),
        ),
      ),
  ])
  if (deleted.length > 0) return 'deleted'
  return (await findProduct(db, tenantId, id)) ? 'in use' : 'not found'
}
