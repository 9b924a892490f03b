import type { Env } from '../../common/env.ts'
import { AppError, notFound } from '../../common/errors.ts'
import { retried } from '../../common/retries.ts'
import { deleteTaskRow, type TaskRef, wasDeleted } from '../database/removal.ts'
import { findTask } from '../database/tasks.ts'
import { deleteArchive } from '../object/archive.ts'
import { taskStub } from './task-stub.ts'

/**
 * Deletes a task that has ended: from the answer on nobody sees it, and its object removes the rest page by page. May be
 * repeated, also after it is gone. 409 `task.not_ended`, 404.
 */
export async function deleteTask(env: Env, ref: TaskRef): Promise<void> {
  const task = await findTask(env.DB, ref)
  if (!task) {
    if (await wasDeleted(env.DB, ref)) return
    throw notFound('task')
  }
  const refused = await taskStub(env, ref.id).leave('deleted')
  if (refused) throw new AppError(409, refused.code, refused.detail)
  // The object of an archived task is gone, and does neither.
  if (task.archivedAt !== null) await deleteArchive(env.PACKAGES, ref)
  await retried(() => deleteTaskRow(env.DB, ref, Date.now()))
}
