/** What the whole database holds, in bytes. */
export async function databaseBytes(d1: D1Database): Promise<number> {
  const { meta } = await d1.prepare('SELECT 1').all()
  return meta.size_after
}

/** What a tenant has in the database, in R2 and in objects. */
export interface TenantUsage {
  tenantId: string
  devices: number
  packages: number
  /** Of package files, in R2. */
  packageBytes: number
  tasks: number
  archivedTasks: number
  /** Devices that ended in a task that is not archived; as the tasks last counted them. */
  outcomes: number
  /** Of the tasks' objects, as they were last written back. */
  objectBytes: number
  auditEntries: number
}

/** Each count reads an index of the tenant's rows, so that nothing reads a whole table. */
export async function readUsage(d1: D1Database, tenantIds: string[]): Promise<TenantUsage[]> {
  const { results } = await d1
    .prepare(
      `SELECT j.value AS tenantId,
         (SELECT count(*) FROM devices WHERE tenant_id = j.value) AS devices,
         coalesce(p.packages, 0) AS packages, coalesce(p.bytes, 0) AS packageBytes,
         coalesce(t.tasks, 0) AS tasks, coalesce(t.archived, 0) AS archivedTasks,
         coalesce(t.outcomes, 0) AS outcomes, coalesce(t.bytes, 0) AS objectBytes,
         (SELECT count(*) FROM audit_entries WHERE tenant_id = j.value) AS auditEntries
       FROM json_each(?1) j
       LEFT JOIN (
         SELECT tenant_id, count(*) AS packages, sum(iif(state = 'ready', size, 0)) AS bytes FROM packages
         WHERE tenant_id IN (SELECT value FROM json_each(?1)) GROUP BY tenant_id) p ON p.tenant_id = j.value
       LEFT JOIN (
         SELECT tenant_id, count(*) AS tasks, count(archived_at) AS archived, sum(object_bytes) AS bytes,
           sum(iif(archived_at IS NULL, counts ->> 'success' + counts ->> 'failure' + counts ->> 'cancelled', 0)) AS outcomes
         FROM tasks WHERE tenant_id IN (SELECT value FROM json_each(?1)) GROUP BY tenant_id) t ON t.tenant_id = j.value
       ORDER BY j.value`,
    )
    .bind(JSON.stringify(tenantIds))
    .all<TenantUsage>()
  return results
}
