import { and, eq, exists, inArray, isNotNull, type SQL, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { deviceModules, devices } from '../db/schema.ts'

/** The filters of `GET /api/v1/devices`. */
export interface DeviceListFilter {
  productId?: string | undefined
  search?: string | undefined
  version?: string | undefined
  module?: string | undefined
  tag?: string | undefined
  online?: boolean | undefined
  /** The device reported 100 % of an upgrade, then another version (src/protocol/README.md#states). */
  rolledBack?: boolean | undefined
}

/** The condition on `devices` for the given filters; the caller adds the tenant. */
export const matchesFilter = (db: Db, filter: DeviceListFilter): SQL | undefined =>
  and(
    filter.productId === undefined ? undefined : eq(devices.productId, filter.productId),
    filter.search === undefined ? undefined : containsText(filter.search),
    filter.tag === undefined ? undefined : hasTag(filter.tag),
    filter.online === undefined ? undefined : eq(devices.online, filter.online),
    filter.rolledBack ? hasRolledBack(db) : undefined,
    filter.version === undefined && filter.module === undefined ? undefined : runsVersion(db, filter),
  )

/**
 * The number or the name contains the text; case is ignored for ASCII letters. `instr` and not LIKE, since D1
 * limits a pattern to 50 bytes.
 */
const containsText = (search: string): SQL =>
  sql`(instr(lower(${devices.number}), lower(${search})) > 0 OR instr(lower(coalesce(${devices.name}, '')), lower(${search})) > 0)`

const hasTag = (tag: string): SQL =>
  sql`EXISTS (SELECT 1 FROM json_each(${devices.tags}) WHERE value = ${tag})`

/** A subquery on the index of rolled-back modules: few rows have the mark. */
const hasRolledBack = (db: Db) =>
  inArray(
    devices.id,
    db.select({ id: deviceModules.deviceId }).from(deviceModules).where(isNotNull(deviceModules.rolledBack)),
  )

/** One module of the device satisfies both filters. */
const runsVersion = (db: Db, { version, module }: DeviceListFilter) =>
  exists(
    db
      .select({ one: sql`1` })
      .from(deviceModules)
      .where(
        and(
          eq(deviceModules.deviceId, devices.id),
          version === undefined ? undefined : eq(deviceModules.version, version),
          module === undefined ? undefined : eq(deviceModules.module, module),
        ),
      ),
  )
