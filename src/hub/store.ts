import { hubOf } from './scope.ts'

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

/**
 * A page of the tenants to which an event of a hub is reported, by id and behind the id `after`: the tenant whose own
 * hub it is; for a shared hub, every tenant with a product on it and a webhook for the event.
 */
export async function findAudience(
  db: D1Database,
  hub: string,
  eventType: string,
  after: string,
  limit: number,
): Promise<string[]> {
  if (!hub.startsWith('*')) {
    const tenantId = hub.slice(0, hub.indexOf('/'))
    return tenantId > after ? [tenantId] : []
  }
  const { results } = await db
    .prepare(
      `SELECT DISTINCT w.tenant_id AS tenantId FROM webhooks w
       WHERE w.tenant_id > ?1 AND EXISTS (SELECT 1 FROM json_each(w.events) WHERE value = ?2)
         AND EXISTS (SELECT 1 FROM products p WHERE p.tenant_id = w.tenant_id AND ${hubOf()} = ?3)
       ORDER BY w.tenant_id LIMIT ?4`,
    )
    .bind(after, eventType, hub, limit)
    .all<{ tenantId: string }>()
  return results.map(({ tenantId }) => tenantId)
}
