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
      `SELECT count(DISTINCT d.id) AS count FROM devices d JOIN device_modules m ON m.device_id = d.id
       WHERE d.tenant_id = ?1 AND m.rolled_back IS NOT NULL`,
    )
    .bind(tenantId)
    .first<number>('count')
  return count ?? 0
}
