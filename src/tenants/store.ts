import { asc, eq, gt } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { tenants } from '../db/schema.ts'

export type Tenant = typeof tenants.$inferSelect

/** A repeat changes nothing. */
export const insertTenant = (db: Db, tenant: Tenant) =>
  db.insert(tenants).values(tenant).onConflictDoNothing({ target: tenants.id })

export const findTenant = (db: Db, id: string): Promise<Tenant | undefined> =>
  db.select().from(tenants).where(eq(tenants.id, id)).get()

/** One row more than `limit`, for `page`. */
export const listTenants = (db: Db, limit: number, cursor = ''): Promise<Tenant[]> =>
  db
    .select()
    .from(tenants)
    .where(gt(tenants.id, cursor))
    .orderBy(asc(tenants.id))
    .limit(limit + 1)
