import { and, asc, desc, eq, gt, isNull, lt, ne, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { packages, tasks } from '../db/schema.ts'
import type { Package, PackageFilter } from './package.ts'

/** A package's id with its tenant's: a query never finds a package by its id alone. */
export interface PackageRef {
  tenantId: string
  packageId: string
}

/** What a package's row gets when its file is complete. */
export interface StoredFile {
  storageKey: string
  /** In bytes. */
  size: number
  /** Lower-case hex by the package's `signMethod`. */
  sign: string
  /** The same by SHA-256, also if `signMethod` is MD5. */
  sha256: string
  filename: string | null
  /** When its signature was found to fit; null if it has none. */
  signatureVerifiedAt: number | null
}

export const isPackage = ({ tenantId, packageId }: PackageRef) =>
  and(eq(packages.id, packageId), eq(packages.tenantId, tenantId))

/**
 * False if nothing was written: the tenant has no such product (any more), or the product has such a package. One
 * statement, so that no other change can come between check and insert.
 */
export async function insertDraft(db: Db, pkg: Package): Promise<boolean> {
  const extData = pkg.extData && JSON.stringify(pkg.extData)
  const written = await db.run(sql`
    INSERT INTO packages (id, tenant_id, product_id, name, description, module, version, kind, source_version,
      sign_method, ext_data, security_counter, signature, signature_key_id, state, created_at)
    SELECT ${pkg.id}, tenant_id, id, ${pkg.name}, ${pkg.description}, ${pkg.module}, ${pkg.version}, ${pkg.kind},
      ${pkg.sourceVersion}, ${pkg.signMethod}, ${extData}, ${pkg.securityCounter},
      ${pkg.signature}, ${pkg.signatureKeyId}, 'draft', ${pkg.createdAt}
    FROM products WHERE id = ${pkg.productId} AND tenant_id = ${pkg.tenantId}
    ON CONFLICT DO NOTHING`)
  return written.meta.changes > 0
}

export const findPackage = (db: Db, ref: PackageRef): Promise<Package | undefined> =>
  db.select().from(packages).where(isPackage(ref)).get()

/** Oldest first; returns up to `limit + 1` rows, as `page` needs. */
export const listPackages = (
  db: Db,
  tenantId: string,
  filter: PackageFilter,
  limit: number,
  cursor = '',
): Promise<Package[]> =>
  db
    .select()
    .from(packages)
    .where(and(matching(tenantId, filter), gt(packages.id, cursor)))
    .orderBy(asc(packages.id))
    .limit(limit + 1)

/** As `listPackages`, newest first. */
export const listNewestPackages = (
  db: Db,
  tenantId: string,
  filter: PackageFilter,
  limit: number,
  cursor?: string,
): Promise<Package[]> =>
  db
    .select()
    .from(packages)
    .where(and(matching(tenantId, filter), cursor === undefined ? undefined : lt(packages.id, cursor)))
    .orderBy(desc(packages.id))
    .limit(limit + 1)

const matching = (tenantId: string, { productId, name, state }: PackageFilter) =>
  and(
    eq(packages.tenantId, tenantId),
    productId === undefined ? undefined : eq(packages.productId, productId),
    name === undefined ? undefined : sql`instr(lower(${packages.name}), lower(${name})) > 0`,
    state === undefined ? undefined : eq(packages.state, state),
  )

/** The other ready packages of the same version and module: a task may send them together with this one. */
export const packagesBeside = (
  db: Db,
  { tenantId, productId, module, version, id }: Package,
  limit: number,
) =>
  db
    .select()
    .from(packages)
    .where(
      and(
        eq(packages.tenantId, tenantId),
        eq(packages.productId, productId),
        eq(packages.module, module),
        eq(packages.version, version),
        eq(packages.state, 'ready'),
        ne(packages.id, id),
      ),
    )
    .orderBy(asc(packages.id))
    .limit(limit)

/** Signs a draft, or signs it anew; undefined if it is gone or no longer a draft. */
export const setSignature = (
  db: Db,
  ref: PackageRef,
  { keyId, value }: { keyId: string; value: string },
): Promise<Package | undefined> =>
  db
    .update(packages)
    .set({ signature: value, signatureKeyId: keyId })
    .where(and(isPackage(ref), eq(packages.state, 'draft')))
    .returning()
    .get()

/** Undefined if the package is no longer ready, or has another signature than the one that is replaced. */
export const replaceSignature = (
  db: Db,
  before: Package,
  { keyId, value }: { keyId: string; value: string },
  now: number,
): Promise<Package | undefined> =>
  db
    .update(packages)
    .set({ signature: value, signatureKeyId: keyId, signatureVerifiedAt: now })
    .where(
      and(
        isPackage({ tenantId: before.tenantId, packageId: before.id }),
        eq(packages.state, 'ready'),
        sql`${packages.signatureKeyId} IS ${before.signatureKeyId}`,
      ),
    )
    .returning()
    .get()

/**
 * Returns the package with its file; undefined if it is gone, is no longer a draft, or has another signature than the one
 * that was checked.
 */
export const makeReady = (db: Db, checked: Package, file: StoredFile): Promise<Package | undefined> =>
  db
    .update(packages)
    .set({ ...file, state: 'ready', error: null })
    .where(
      and(
        isPackage({ tenantId: checked.tenantId, packageId: checked.id }),
        eq(packages.state, 'draft'),
        sql`${packages.signature} IS ${checked.signature}`,
        sql`${packages.signatureKeyId} IS ${checked.signatureKeyId}`,
      ),
    )
    .returning()
    .get()

/**
 * Marks the package as recalled at `now`; a repeat keeps the first time. Undefined if the tenant has no package of this
 * id or it is a draft. From here on no task can be made with it, and no verification makes it ready.
 */
export const markRecalled = (db: Db, ref: PackageRef, now: number): Promise<Package | undefined> =>
  db
    .update(packages)
    .set({ state: 'recalled', recalledAt: sql`coalesce(${packages.recalledAt}, ${now})`, error: null })
    .where(and(isPackage(ref), ne(packages.state, 'draft')))
    .returning()
    .get()

/** The ids of tasks that may send the package: also finished ones, since a retry makes a finished task run again. */
export async function findTasksUsing(db: Db, { tenantId, productId, id }: Package): Promise<string[]> {
  const rows = await db
    .select({ id: tasks.id })
    .from(tasks)
    .where(
      and(
        eq(tasks.tenantId, tenantId),
        eq(tasks.productId, productId),
        ne(tasks.status, 'cancelled'),
        isNull(tasks.archivedAt),
        sql`EXISTS (SELECT 1 FROM json_each(${tasks.packageIds}) WHERE value = ${id})`,
      ),
    )
  return rows.map((row) => row.id)
}

/** Deletes a package that no task uses, archived ones aside; one statement, so that no task can be created between check and delete. */
export async function deleteUnusedPackage(
  db: Db,
  ref: PackageRef,
): Promise<'deleted' | 'in use' | 'not found'> {
  const deleted = await db
    .delete(packages)
    .where(
      and(
        isPackage(ref),
        sql`NOT EXISTS (
          SELECT 1 FROM tasks, json_each(tasks.package_ids) AS used
          WHERE tasks.product_id = packages.product_id AND tasks.tenant_id = packages.tenant_id
            AND tasks.archived_at IS NULL AND used.value = packages.id)`,
      ),
    )
    .returning({ id: packages.id })
  if (deleted.length > 0) return 'deleted'
  return (await findPackage(db, ref)) ? 'in use' : 'not found'
}
