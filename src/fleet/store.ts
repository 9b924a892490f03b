// Figures over all devices of a tenant, for the console's overview.

export interface FleetFigures {
  devices: number
  online: number
}

export async function readFigures(db: D1Database, tenantId: string): Promise<FleetFigures> {
  const row = await db
    .prepare(
      'SELECT count(*) AS devices, count(*) FILTER (WHERE online) AS online FROM devices WHERE tenant_id = ?1',
    )
    .bind(tenantId)
    .first<FleetFigures>()
  return row ?? { devices: 0, online: 0 }
}

export interface VersionShare {
  productId: string
  version: string
  count: number
}

/** The number of devices for each product and version of module `default`, the largest first. */
export async function readVersions(
  db: D1Database,
  tenantId: string,
  productId: string | null,
  limit: number,
): Promise<VersionShare[]> {
  const { results } = await db
    .prepare(
      `SELECT d.product_id AS productId, m.version, count(*) AS count
       FROM devices d JOIN device_modules m ON m.device_id = d.id AND m.module = 'default'
       WHERE d.tenant_id = ?1 AND (?2 IS NULL OR d.product_id = ?2)
       GROUP BY d.product_id, m.version ORDER BY count DESC LIMIT ?3`,
    )
    .bind(tenantId, productId, limit)
    .all<VersionShare>()
  return results
}

/** The number of devices that reported 100 % and then another version. */
export async function countRolledBack(db: D1Database, tenantId: string): Promise<number> {
  const count = await db
    .prepare(
      // CROSS JOIN makes SQLite start from the index of rolled-back modules, which has few rows.
      `SELECT count(DISTINCT d.id) AS count FROM device_modules m CROSS JOIN devices d ON d.id = m.device_id
       WHERE m.rolled_back IS NOT NULL AND d.tenant_id = ?1`,
    )
    .bind(tenantId)
    .first<number>('count')
  return count ?? 0
}

/** A device with rejected messages; `at` is the time of the latest, in ms since 1970. */
export interface RejectedDevice {
  deviceId: string
  number: string
  at: number
}

/** The devices with messages rejected since a time in ms since 1970, the latest first. */
export async function readRejected(
  db: D1Database,
  tenantId: string,
  since: number,
  limit: number,
): Promise<RejectedDevice[]> {
  const { results } = await db
    .prepare(
      `SELECT r.device_id AS deviceId, d.number, r.updated_at AS at
       FROM rejections r CROSS JOIN devices d ON d.id = r.device_id
       WHERE r.tenant_id = ?1 AND r.updated_at >= ?2 ORDER BY r.updated_at DESC LIMIT ?3`,
    )
    .bind(tenantId, since, limit)
    .all<RejectedDevice>()
  return results
}
