import type { TaskSpec } from '../rules/task.ts'

/**
 * Of these devices, the ones to which a broker can bring a notice now, as far as is known: those that are connected, and
 * those of which nobody can tell. While the bridge is away (`isAway`), only the latter: they may come over HTTPS.
 */
export async function readConnected(
  db: D1Database,
  { tenantId, productId }: Pick<TaskSpec, 'tenantId' | 'productId'>,
  deviceIds: string[],
  isAway: boolean,
): Promise<Set<string>> {
  const { results } = await db
    .prepare(
      `SELECT id FROM devices
       WHERE id IN (SELECT value FROM json_each(?1)) AND tenant_id = ?2 AND product_id = ?3 AND enabled
         AND (online IS NULL OR (online AND NOT ?4))`,
    )
    .bind(JSON.stringify(deviceIds), tenantId, productId, Number(isAway))
    .all<{ id: string }>()
  return new Set(results.map(({ id }) => id))
}
