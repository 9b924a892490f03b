import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { archiveTasks } from './archive-tasks.ts'
import { tellFillingDatabase, tellFillingTasks } from './filling.ts'
import { deleteOldEntries, deleteOldRows, forgetDeletedTasks } from './old-rows.ts'
import { oldBefore } from './settings.ts'

/**
 * What a run of the cron does, a bounded number of pages of each; the next run goes on. A part that fails holds up no other.
 * `now`: ms since 1970.
 */
export async function sweep(env: Env, now: number): Promise<void> {
  const before = oldBefore(env.RETENTION_DAYS, now)
  const entriesBefore = oldBefore(env.AUDIT_RETENTION_DAYS, now)
  await part('database_filling', () => tellFillingDatabase(env, now))
  await part('tasks_filling', () => tellFillingTasks(env, now))
  await part('old_rows', () => deleteOldRows(env.DB, before))
  if (entriesBefore !== null) await part('audit', () => deleteOldEntries(env.DB, entriesBefore))
  if (before === null) return
  await part('tasks', () => archiveTasks(env, before))
  await part('deleted_tasks', () => forgetDeletedTasks(env.DB, before))
}

async function part(name: string, run: () => Promise<unknown>): Promise<void> {
  try {
    await run()
  } catch (error) {
    logError('retention.failed', { part: name, ...errorFields(error) })
  }
}
