import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { taskStub } from '../tasks/api/task-stub.ts'
import { readCursor, writeCursor } from './cursors.ts'

/** In one run, since each writes its report; a cursor passes over those that cannot be archived now. */
const TASKS_A_RUN = 50
const CURSOR = 'archive'

/**
 * Tells tasks that ended long ago to go into the archive, which their objects do in their alarms. One that is cut off, or
 * that could not be told, is told again when its turn comes round.
 */
export async function archiveTasks(env: Env, before: number): Promise<void> {
  const { results } = await env.DB.prepare(
    `SELECT id FROM tasks WHERE id > ?1 AND archived_at IS NULL AND status IN ('finished', 'cancelled') AND finished_at < ?2
     ORDER BY id LIMIT ${TASKS_A_RUN}`,
  )
    .bind(await readCursor(env.DB, CURSOR), before)
    .all<{ id: string }>()
  for (const { id } of results) {
    try {
      const refused = await taskStub(env, id).leave('archived')
      if (refused) logError('retention.not_archived', { task: id, why: refused.code })
    } catch (error) {
      logError('retention.not_archived', { task: id, ...errorFields(error) })
    }
  }
  await writeCursor(env.DB, CURSOR, results.length < TASKS_A_RUN ? '' : results.at(-1)!.id)
}
