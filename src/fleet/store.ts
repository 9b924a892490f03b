// What a tenant's fleet looks like as a whole.

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

/** How many devices of each product run which version of the whole firmware, the most frequent first. */
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

/** Devices that reported 100 % and run another version. */
export async function countRolledBack(db: D1Database, tenantId: string): Promise<number> {
  const count = await db
    .prepare(
      // CROSS JOIN keeps the order: from the few that did, by their index.
      `SELECT count(DISTINCT d.id) AS count FROM device_modules m CROSS JOIN devices d ON d.id = m.device_id
       WHERE m.rolled_back IS NOT NULL AND d.tenant_id = ?1`,
    )
    .bind(tenantId)
    .first<number>('count')
  return count ?? 0
}

/** A device whose messages were rejected, and when the last of them came, in ms since 1970. */
export interface RejectedDevice {
  deviceId: string
  number: string
  at: number
}

/** The devices whose messages were rejected since a time (ms), the latest first. */
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
