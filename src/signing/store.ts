import { and, asc, desc, eq, gt, isNull, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { products, signingKeys } from '../db/schema.ts'
import type { SigningPolicy } from './policy.ts'
import { MAX_SIGNING_KEYS, MAX_SIGNING_NAME, type SigningKey } from './signing-key.ts'

export interface ProductRef {
  tenantId: string
  productId: string
}

const ofProduct = ({ tenantId, productId }: ProductRef) =>
  and(eq(signingKeys.productId, productId), eq(signingKeys.tenantId, tenantId))

export async function productExists(db: Db, { tenantId, productId }: ProductRef): Promise<boolean> {
  const found = await db
    .select({ id: products.id })
    .from(products)
    .where(and(eq(products.id, productId), eq(products.tenantId, tenantId)))
    .get()
  return found !== undefined
}

/**
 * Adds a key, and fixes the product's `signingName` if it is its first. One batch, so that neither is without the other.
 * False if nothing was written: there is no such product, its keys are `MAX_SIGNING_KEYS`, or it has this one in force.
 */
export async function insertSigningKey(d1: D1Database, key: SigningKey): Promise<boolean> {
  const [written] = await d1.batch([
    d1
      .prepare(
        `INSERT INTO signing_keys (id, tenant_id, product_id, name, public_key, created_at)
         SELECT ?1, tenant_id, id, ?4, ?5, ?6 FROM products
         WHERE id = ?2 AND tenant_id = ?3 AND (
           SELECT count(*) FROM signing_keys WHERE product_id = ?2 AND retired_at IS NULL) < ?7
         ON CONFLICT DO NOTHING`,
      )
      .bind(key.id, key.productId, key.tenantId, key.name, key.publicKey, key.createdAt, MAX_SIGNING_KEYS),
    d1
      .prepare(
        `UPDATE products SET signing_name = rtrim(substr(name, 1, ?3))
         WHERE id = ?1 AND signing_name IS NULL AND EXISTS (SELECT 1 FROM signing_keys WHERE id = ?2)`,
      )
      .bind(key.productId, key.id, MAX_SIGNING_NAME),
  ])
  return written!.meta.changes > 0
}

/** Does the product have this public key in force? */
export async function isInForce(db: Db, ref: ProductRef, publicKey: string): Promise<boolean> {
  const found = await db
    .select({ id: signingKeys.id })
    .from(signingKeys)
    .where(and(ofProduct(ref), eq(signingKeys.publicKey, publicKey), isNull(signingKeys.retiredAt)))
    .get()
  return found !== undefined
}

/** Retires a key at `now`; a repeat keeps the first time. False if the product has no key of this id. */
export async function retireSigningKey(
  db: Db,
  ref: ProductRef,
  keyId: string,
  now: number,
): Promise<boolean> {
  const retired = await db
    .update(signingKeys)
    .set({ retiredAt: sql`coalesce(${signingKeys.retiredAt}, ${now})` })
    .where(and(ofProduct(ref), eq(signingKeys.id, keyId)))
    .returning({ id: signingKeys.id })
  return retired.length > 0
}

/** Also the retired ones, oldest first; returns up to `limit + 1` rows, as `page` needs. */
export const listSigningKeys = (db: Db, ref: ProductRef, limit: number, cursor = ''): Promise<SigningKey[]> =>
  db
    .select()
    .from(signingKeys)
    .where(and(ofProduct(ref), gt(signingKeys.id, cursor)))
    .orderBy(asc(signingKeys.id))
    .limit(limit + 1)

/** Those in force before the retired ones, each newest first. */
export const listNewestSigningKeys = (db: Db, ref: ProductRef, limit: number): Promise<SigningKey[]> =>
  db
    .select()
    .from(signingKeys)
    .where(ofProduct(ref))
    .orderBy(sql`${signingKeys.retiredAt} IS NOT NULL`, desc(signingKeys.id))
    .limit(limit)

/** The keys in force of all products of the tenant, with the products' names; up to `limit`. */
export const listKeysInForce = (db: Db, tenantId: string, limit: number): Promise<KeyOfProduct[]> =>
  db
    .select({ id: signingKeys.id, name: signingKeys.name, product: products.name })
    .from(products)
    .innerJoin(signingKeys, eq(signingKeys.productId, products.id))
    .where(and(eq(products.tenantId, tenantId), isNull(signingKeys.retiredAt)))
    .orderBy(asc(products.id), asc(signingKeys.id))
    .limit(limit)

export interface KeyOfProduct {
  id: string
  name: string
  product: string
}

export const findSigningKey = (db: Db, ref: ProductRef, keyId: string): Promise<SigningKey | undefined> =>
  db
    .select()
    .from(signingKeys)
    .where(and(ofProduct(ref), eq(signingKeys.id, keyId)))
    .get()

/**
 * SQL: a product's signing policy as JSON text, null if there is no such product. The same policy is the same text, so
 * that a later statement can ask whether it still holds.
 */
export const signingPolicyOf = (productId: string) => `(
  SELECT json_object('isRequired', signed.require_signature, 'signingName', signed.signing_name, 'keys', (
    SELECT json_group_object(id, public_key) FROM (
      SELECT id, public_key FROM signing_keys
      WHERE product_id = signed.id AND tenant_id = signed.tenant_id AND retired_at IS NULL ORDER BY id)))
  FROM products signed WHERE signed.id = ${productId})`

/** Reads what `signingPolicyOf` returned. */
export function parseSigningPolicy(text: string): SigningPolicy {
  const { isRequired, signingName, keys } = JSON.parse(text)
  return { isRequired: isRequired !== 0, signingName, keys }
}

/** Without a product nothing may go out. */
const NO_PRODUCT = JSON.stringify({ isRequired: 1, signingName: null, keys: {} })

/** The policy as text of a product that is known to be the tenant's. */
export async function readSigningText(db: D1Database, productId: string): Promise<string> {
  const row = await db
    .prepare(`SELECT ${signingPolicyOf('?1')} AS policy`)
    .bind(productId)
    .first<{ policy: string | null }>()
  return row?.policy ?? NO_PRODUCT
}

export const readSigningPolicy = async (db: D1Database, productId: string): Promise<SigningPolicy> =>
  parseSigningPolicy(await readSigningText(db, productId))
