import { and, eq, exists, inArray, isNotNull, type SQL, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { deviceModules, devices } from '../db/schema.ts'

/** What `GET /api/v1/devices` filters by. */
export interface DeviceListFilter {
  productId?: string | undefined
  search?: string | undefined
  version?: string | undefined
  module?: string | undefined
  tag?: string | undefined
  online?: boolean | undefined
  /** It reported 100 % of an upgrade, and then another version (PROTOCOL.md, 4). */
  rolledBack?: boolean | undefined
}

/** Conditions on `devices` for the given filters; a caller adds the tenant. */
export const matches = (db: Db, filter: DeviceListFilter): SQL | undefined =>
  and(
    filter.productId === undefined ? undefined : eq(devices.productId, filter.productId),
    filter.search === undefined ? undefined : found(filter.search),
    filter.tag === undefined ? undefined : tagged(filter.tag),
    filter.online === undefined ? undefined : eq(devices.online, filter.online),
    filter.rolledBack ? hasRolledBack(db) : undefined,
    filter.version === undefined && filter.module === undefined ? undefined : runs(db, filter),
  )

/**
 * The text stands in the number or the name, whatever its case in ASCII. Not by LIKE: D1 takes no pattern of more
 * than 50 bytes.
 */
export const found = (search: string): SQL =>
  sql`(instr(lower(${devices.number}), lower(${search})) > 0 OR instr(lower(coalesce(${devices.name}, '')), lower(${search})) > 0)`

export const tagged = (tag: string): SQL =>
  sql`EXISTS (SELECT 1 FROM json_each(${devices.tags}) WHERE value = ${tag})`

/** From the few that did, by their index, to the devices. */
const hasRolledBack = (db: Db) =>
  inArray(
    devices.id,
    db.select({ id: deviceModules.deviceId }).from(deviceModules).where(isNotNull(deviceModules.rolledBack)),
  )

/** One module satisfies both: the version, and the module where one is named. */
const runs = (db: Db, { version, module }: DeviceListFilter) =>
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
