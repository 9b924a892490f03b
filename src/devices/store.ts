import { and, asc, desc, eq, exists, gt, isNull, lt, ne, notExists, sql } from 'drizzle-orm'
import { alias } from 'drizzle-orm/sqlite-core'
import type { Db } from '../db/client.ts'
import { deviceModules, devices, outcomes, products, rejections, tasks, upgrades } from '../db/schema.ts'
import { hubOf, numberIsTaken, onHubSince } from '../hub/scope.ts'
import type { Device, DeviceModule } from './device.ts'
import { type DeviceListFilter, matchesFilter } from './filter.ts'

const isDevice = (tenantId: string, id: string) => and(eq(devices.id, id), eq(devices.tenantId, tenantId))

/**
 * False if nothing was written: the tenant has no such product (any more), or the number, its topic or the credential is
 * taken. One statement, so that no other change can come between check and insert.
 */
export async function insertDevice(db: Db, device: Device): Promise<boolean> {
  const written = await db.run(sql`
    INSERT INTO devices (id, tenant_id, product_id, number, name, access_token, password_hash, tags, enabled, created_at)
    SELECT ${device.id}, p.tenant_id, p.id, ${device.number}, ${device.name}, ${device.accessToken},
      ${device.passwordHash}, ${JSON.stringify(device.tags)}, ${device.enabled ? 1 : 0}, ${device.createdAt}
    FROM products p CROSS JOIN (SELECT ${device.number} AS number) n
    WHERE p.id = ${device.productId} AND p.tenant_id = ${device.tenantId} AND NOT ${sql.raw(numberIsTaken('n.number'))}
    ON CONFLICT DO NOTHING`)
  return written.meta.changes > 0
}

/** Whether another tenant's device has the number as its topic on the product's bridge. */
export async function isTopicTaken(db: Db, productId: string, number: string): Promise<boolean> {
  const taken = sql.raw(numberIsTaken('n.number'))
  const rows = await db.all(sql`
    SELECT 1 FROM products p CROSS JOIN (SELECT ${number} AS number) n WHERE p.id = ${productId} AND ${taken}`)
  return rows.length > 0
}

export const findDevice = (db: Db, tenantId: string, id: string): Promise<Device | undefined> =>
  db.select().from(devices).where(isDevice(tenantId, id)).get()

export const findDeviceByNumber = (db: Db, tenantId: string, productId: string, number: string) =>
  db
    .select({ id: devices.id })
    .from(devices)
    .where(and(eq(devices.tenantId, tenantId), eq(devices.productId, productId), eq(devices.number, number)))
    .get()

/** Returns up to `limit + 1` rows, as `page` needs. */
export const listDevices = (
  db: Db,
  tenantId: string,
  filter: DeviceListFilter,
  limit: number,
  cursor = '',
): Promise<Device[]> =>
  db
    .select()
    .from(devices)
    .where(and(eq(devices.tenantId, tenantId), matchesFilter(db, filter), gt(devices.id, cursor)))
    .orderBy(asc(devices.id))
    .limit(limit + 1)

/** The devices' module versions, by device id. The caller got the ids from a query with the tenant. */
export async function modulesOf(db: Db, deviceIds: string[]): Promise<Map<string, DeviceModule[]>> {
  const rows = await db
    .select({
      deviceId: deviceModules.deviceId,
      module: deviceModules.module,
      version: deviceModules.version,
      reportedAt: deviceModules.reportedAt,
      rolledBack: deviceModules.rolledBack,
      assumed: upgrades.assumedVersion,
      isUnknown: upgrades.isUnknown,
      reportedIn: deviceModules.productId,
      productId: devices.productId,
    })
    .from(deviceModules)
    .innerJoin(devices, eq(devices.id, deviceModules.deviceId))
    .leftJoin(
      upgrades,
      and(eq(upgrades.deviceId, deviceModules.deviceId), eq(upgrades.module, deviceModules.module)),
    )
    .where(sql`${deviceModules.deviceId} IN (SELECT value FROM json_each(${JSON.stringify(deviceIds)}))`)
    .orderBy(asc(deviceModules.module))
  const modules = rows.map(({ isUnknown, reportedIn, productId, ...row }): DeviceModule => {
    const isOfProduct = reportedIn === null || reportedIn === productId
    // A report of the assumed version confirms it; nothing is written for that.
    const assumed = row.assumed === row.version ? null : row.assumed
    return { ...row, assumed, certain: isOfProduct && !isUnknown && assumed === null }
  })
  return Map.groupBy(modules, (row) => row.deviceId)
}

/** Returns the changed device; undefined if the tenant has no device of this id. */
export async function updateDevice(
  db: Db,
  tenantId: string,
  id: string,
  changes: Partial<Pick<Device, 'enabled' | 'name' | 'tags'>>,
): Promise<Device | undefined> {
  if (Object.values(changes).every((value) => value === undefined)) return findDevice(db, tenantId, id)
  return db.update(devices).set(changes).where(isDevice(tenantId, id)).returning().get()
}

/**
 * False if the device has left its product, has an active upgrade, or the target is gone or has its number, or another
 * tenant's device has the number as its topic there.
 */
export async function moveDevice(db: Db, device: Device, productId: string): Promise<boolean> {
  const other = alias(devices, 'other')
  const move = db
    .update(devices)
    .set({ productId })
    .where(
      and(
        isDevice(device.tenantId, device.id),
        eq(devices.productId, device.productId),
        exists(
          db
            .select({ one: sql`1` })
            .from(products)
            .where(and(eq(products.id, productId), eq(products.tenantId, device.tenantId))),
        ),
        notExists(
          db
            .select({ one: sql`1` })
            .from(other)
            .where(
              and(eq(other.productId, productId), eq(other.number, device.number), ne(other.id, device.id)),
            ),
        ),
        notExists(
          db
            .select({ one: sql`1` })
            .from(upgrades)
            .where(and(eq(upgrades.deviceId, device.id), eq(upgrades.active, true))),
        ),
        sql`NOT EXISTS (SELECT 1 FROM products p WHERE p.id = ${productId} AND ${sql.raw(numberIsTaken('devices.number'))})`,
      ),
    )
    .returning({ id: devices.id })
  // It starts clean in its new product: what it runs is uncertain, and no task of the old product is newer than others.
  const isThere = exists(
    db
      .select({ one: sql`1` })
      .from(devices)
      .where(and(isDevice(device.tenantId, device.id), eq(devices.productId, productId))),
  )
  const [moved] = await db.batch([
    move,
    db
      .update(deviceModules)
      .set({ productId: '' })
      .where(
        and(
          eq(deviceModules.deviceId, device.id),
          ne(sql`coalesce(${deviceModules.productId}, '-')`, productId),
          isThere,
        ),
      ),
    db
      .update(upgrades)
      .set({
        succeededTaskId: null,
        succeededRank: null,
        waitingTaskId: null,
        waitingRank: null,
        doubtVersion: null,
        isUnknown: 1,
        assumedVersion: null,
      })
      .where(and(eq(upgrades.deviceId, device.id), eq(upgrades.active, false), isThere)),
  ])
  if (moved.length > 0) {
    for (const product of [device.productId, productId]) await tellNamesakes(db, device.number, product)
  }
  return moved.length > 0
}

/** False if the device's token is no longer the one in `device`, or the device has credentials. */
export async function replaceToken(db: Db, device: Device, accessToken: string): Promise<boolean> {
  const replaced = await db
    .update(devices)
    .set({ accessToken })
    .where(
      and(
        isDevice(device.tenantId, device.id),
        eq(devices.accessToken, device.accessToken),
        isNull(devices.passwordHash),
      ),
    )
    .returning({ id: devices.id })
  return replaced.length > 0
}

/** Deletes the device with its modules and rejections. Returns the deleted row, or undefined if there was none. */
export async function deleteDevice(db: Db, tenantId: string, id: string): Promise<Device | undefined> {
  const device = db.select({ id: devices.id }).from(devices).where(isDevice(tenantId, id))
  const [, , deleted] = await db.batch([
    db.delete(deviceModules).where(sql`${deviceModules.deviceId} IN ${device}`),
    db.delete(rejections).where(and(eq(rejections.deviceId, id), eq(rejections.tenantId, tenantId))),
    db.delete(devices).where(isDevice(tenantId, id)).returning(),
  ])
  if (deleted[0]) await tellNamesakes(db, deleted[0].number, deleted[0].productId)
  return deleted[0]
}

/**
 * A device with this number has left the product, or come to it, so the number may be another device's topic now. The
 * bridges read the first two of the hub that have it anew: no others were or are its holders.
 */
const tellNamesakes = (db: Db, number: string, productId: string) => {
  const order = sql.raw(`${onHubSince()}, d.id`)
  return db.run(sql`
    INSERT INTO credential_changes (access_token, seq, tenant_id)
    SELECT d.access_token, (SELECT coalesce(max(seq), 0) FROM credential_changes) + row_number() OVER (ORDER BY ${order}),
      d.tenant_id
    FROM devices d JOIN products p ON p.id = d.product_id
    WHERE d.number = ${number} AND ${sql.raw(hubOf())} = (SELECT ${sql.raw(hubOf('o'))} FROM products o WHERE o.id = ${productId})
    ORDER BY ${order} LIMIT 2
    ON CONFLICT (access_token) DO UPDATE SET seq = excluded.seq`)
}

export const findRejections = (db: Db, tenantId: string, deviceId: string) =>
  db
    .select({ total: rejections.total, items: rejections.items })
    .from(rejections)
    .where(and(eq(rejections.deviceId, deviceId), eq(rejections.tenantId, tenantId)))
    .get()

/** The device's active upgrades: at most one a module (src/protocol/README.md#slots). */
export const activeUpgrades = (db: Db, tenantId: string, deviceId: string) =>
  db
    .select({
      taskId: upgrades.taskId,
      taskName: tasks.name,
      module: upgrades.module,
      fromVersion: deviceModules.version,
      targetVersion: upgrades.targetVersion,
    })
    .from(upgrades)
    .innerJoin(tasks, and(eq(tasks.id, upgrades.taskId), eq(tasks.tenantId, tenantId)))
    .leftJoin(
      deviceModules,
      and(eq(deviceModules.deviceId, upgrades.deviceId), eq(deviceModules.module, upgrades.module)),
    )
    .where(and(eq(upgrades.deviceId, deviceId), eq(upgrades.tenantId, tenantId), eq(upgrades.active, true)))
    .orderBy(desc(upgrades.taskId))

/**
 * The device's ended upgrades, newest task first; up to `limit + 1` rows, as `page` needs. An upgrade that a retry
 * made active again is in `activeUpgrades` instead.
 */
export const endedUpgrades = (db: Db, tenantId: string, deviceId: string, limit: number, cursor?: string) =>
  db
    .select({
      taskId: outcomes.taskId,
      taskName: tasks.name,
      module: outcomes.module,
      fromVersion: outcomes.fromVersion,
      targetVersion: outcomes.targetVersion,
      status: outcomes.status,
      description: outcomes.description,
      because: outcomes.reason,
      rolledBack: outcomes.rolledBack,
      attempt: outcomes.attempt,
      finishedAt: outcomes.finishedAt,
    })
    .from(outcomes)
    .innerJoin(tasks, and(eq(tasks.id, outcomes.taskId), eq(tasks.tenantId, tenantId)))
    .where(
      and(
        eq(outcomes.deviceId, deviceId),
        eq(outcomes.tenantId, tenantId),
        cursor === undefined ? undefined : lt(outcomes.taskId, cursor),
        notExists(
          db
            .select({ one: sql`1` })
            .from(upgrades)
            .where(
              and(
                eq(upgrades.deviceId, outcomes.deviceId),
                eq(upgrades.module, outcomes.module),
                eq(upgrades.taskId, outcomes.taskId),
                eq(upgrades.active, true),
              ),
            ),
        ),
      ),
    )
    .orderBy(desc(outcomes.taskId))
    .limit(limit + 1)
