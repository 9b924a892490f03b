import type { TaskContext } from './task-context.ts'

/**
 * Writes the task's row in D1: made with the task, then brought up to date. False where the task cannot be: its
 * package is not ready, or was deleted meanwhile.
 */
export async function writeTaskRow({ env, spec, run, rank }: TaskContext): Promise<boolean> {
  const { meta } = await env.DB.prepare(
    `INSERT INTO tasks (id, tenant_id, product_id, package_ids, module, target_version, name, description, selection,
       policy, status, paused_reason, start_at, end_at, rank, counts, created_at, finished_at)
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18
     WHERE EXISTS (SELECT 1 FROM packages WHERE id = ?19 AND tenant_id = ?2 AND state = 'ready')
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, status = excluded.status,
       paused_reason = excluded.paused_reason, end_at = excluded.end_at, counts = excluded.counts,
       finished_at = excluded.finished_at`,
  )
    .bind(
      spec.id,
      spec.tenantId,
      spec.productId,
      JSON.stringify([spec.package.id]),
      spec.package.module,
      spec.package.version,
      spec.name,
      spec.description,
      JSON.stringify(spec.selection),
      JSON.stringify(spec.policy),
      run.status,
      run.pausedReason,
      spec.startAt,
      spec.endAt,
      rank,
      JSON.stringify(run.counts),
      spec.createdAt,
      run.finishedAt,
      spec.package.id,
    )
    .run()
  return meta.changes > 0
}
