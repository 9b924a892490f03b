import { hubOf } from '../devices/scope.ts'

const MAX_BRIDGES = 100

/** The bridges that the tenant's products name, each with the hub that serves it. */
export async function listBridges(
  db: D1Database,
  tenantId: string,
): Promise<{ hub: string; name: string; isOwn: boolean }[]> {
  const { results } = await db
    .prepare(
      `SELECT DISTINCT p.bridge AS name, ${hubOf()} AS hub FROM products p
       WHERE p.tenant_id = ?1 ORDER BY p.bridge LIMIT ${MAX_BRIDGES}`,
    )
    .bind(tenantId)
    .all<{ name: string; hub: string }>()
  return results.map(({ name, hub }) => ({ name, hub, isOwn: !hub.startsWith('*') }))
}
