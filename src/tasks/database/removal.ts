import type { TaskSpec } from '../rules/task.ts'

// What D1 loses when a task is deleted or archived. Every statement changes nothing twice.

/** A task by its id and its tenant's. */
export type TaskRef = Pick<TaskSpec, 'id' | 'tenantId'>

/** Deletes the task's row and notes that it was deleted, in one step: nothing writes the row anew. */
export async function deleteTaskRow(d1: D1Database, { id, tenantId }: TaskRef, now: number): Promise<void> {
  await d1.batch([
    d1
      .prepare(
        'INSERT INTO deleted_tasks (id, tenant_id, deleted_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING',
      )
      .bind(id, tenantId, now),
    d1.prepare('DELETE FROM tasks WHERE id = ?1 AND tenant_id = ?2').bind(id, tenantId),
  ])
}

/** Had the tenant a task of this id that was deleted? */
export const wasDeleted = async (d1: D1Database, { id, tenantId }: TaskRef): Promise<boolean> =>
  (await d1
    .prepare('SELECT 1 FROM deleted_tasks WHERE id = ?1 AND tenant_id = ?2')
    .bind(id, tenantId)
    .first()) !== null

/** The task's summary and report are in R2: from now on they are what is shown. A repeat keeps the first time. */
export const markArchived = (d1: D1Database, { id, tenantId }: TaskRef, now: number) =>
  d1
    .prepare(
      'UPDATE tasks SET archived_at = ?3, object_bytes = 0 WHERE id = ?1 AND tenant_id = ?2 AND archived_at IS NULL',
    )
    .bind(id, tenantId, now)
    .run()

/**
 * Deletes how these devices ended in the task, and takes its name out of their slots. What the slots say of the devices
 * themselves stays: ids of notices go on growing, and no older task downgrades a device.
 */
export async function forgetDevices(
  d1: D1Database,
  { id, module }: Pick<TaskSpec, 'id' | 'module'>,
  deviceIds: string[],
): Promise<void> {
  const page = JSON.stringify(deviceIds)
  await d1.batch([
    d1
      .prepare('DELETE FROM outcomes WHERE task_id = ?2 AND device_id IN (SELECT value FROM json_each(?1))')
      .bind(page, id),
    d1
      .prepare(
        `UPDATE upgrades SET active = active AND task_id <> ?2, task_id = iif(task_id = ?2, '', task_id),
           succeeded_task_id = nullif(succeeded_task_id, ?2),
           waiting_rank = iif(waiting_task_id IS ?2, NULL, waiting_rank),
           waiting_task_id = nullif(waiting_task_id, ?2)
         WHERE module = ?3 AND device_id IN (SELECT value FROM json_each(?1))
           AND (task_id = ?2 OR succeeded_task_id = ?2 OR waiting_task_id = ?2)`,
      )
      .bind(page, id, module),
  ])
}
