import { inEnglish } from '../../reasons/reason.ts'
import type { TaskSpec } from '../rules/task.ts'
import type { TaskRun } from '../rules/task-run.ts'

/**
 * Makes the task's row in D1, or brings it up to date. Returns false if there can be no such task: one of its packages was
 * recalled or deleted meanwhile, or the task itself was deleted or archived.
 */
export async function writeTaskRow(
  db: D1Database,
  {
    spec,
    run,
    rank,
    storage,
  }: { spec: TaskSpec; run: TaskRun; rank: string; storage: { size: () => number } },
): Promise<boolean> {
  const packageIds = JSON.stringify(spec.packages.map(({ id }) => id))
  const { meta } = await db
    .prepare(
      `INSERT INTO tasks (id, tenant_id, product_id, package_ids, module, target_version, name, description, selection,
       policy, status, paused_reason, paused_because, start_at, end_at, rank, counts, created_at, finished_at, object_bytes)
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?20, ?13, ?14, ?15, ?16, ?17, ?18, ?21
     WHERE EXISTS (SELECT 1 FROM tasks WHERE id = ?1) OR ((
       SELECT count(*) FROM packages
       WHERE id IN (SELECT value FROM json_each(?4)) AND tenant_id = ?2 AND state = 'ready') = ?19
       AND NOT EXISTS (SELECT 1 FROM deleted_tasks WHERE id = ?1))
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, status = excluded.status,
       paused_reason = excluded.paused_reason, paused_because = excluded.paused_because, policy = excluded.policy, end_at = excluded.end_at, counts = excluded.counts,
       finished_at = excluded.finished_at, object_bytes = excluded.object_bytes
     WHERE archived_at IS NULL`,
    )
    .bind(
      spec.id,
      spec.tenantId,
      spec.productId,
      packageIds,
      spec.module,
      spec.targetVersion,
      spec.name,
      spec.description,
      JSON.stringify(spec.selection),
      JSON.stringify(spec.policy),
      run.status,
      run.pausedBecause && inEnglish(run.pausedBecause),
      spec.startAt,
      spec.endAt,
      rank,
      JSON.stringify(run.counts),
      spec.createdAt,
      run.finishedAt,
      spec.packages.length,
      run.pausedBecause && JSON.stringify(run.pausedBecause),
      storage.size(),
    )
    .run()
  return meta.changes > 0
}
