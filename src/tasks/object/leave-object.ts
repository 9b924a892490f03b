import { retried } from '../../common/retries.ts'
import { deleteTaskRow, markArchived } from '../database/removal.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { forgetPage } from '../steps/leave.ts'
import { deleteArchive, writeArchive } from './archive.ts'

/** After this the alarm ends and is set anew, so that one run stays short. */
const LEAVE_FOR_MS = 10_000

/**
 * What an alarm does for a task that goes: first D1 and R2 no longer lead to its object, then its devices are taken out of
 * D1, a page at a time. Returns whether nothing is left to do but to delete the object's storage.
 */
export async function leavePages(task: TaskContext): Promise<boolean> {
  const { now } = task
  const until = now() + LEAVE_FOR_MS
  while (now() < until) {
    if (!task.run.leaving!.isToldOf) await tell(task)
    else if (!(await forgetPage(task))) return task.run.leaving!.isToldOf
  }
  return false
}

async function tell(task: TaskContext): Promise<void> {
  const { env, spec, run, now, save } = task
  const { to } = run.leaving!
  if (to === 'archived') {
    await writeArchive(task)
    // An operator may have deleted it meanwhile.
    if (run.leaving!.to !== to) return
    await retried(() => markArchived(env.DB, spec, now()))
  } else {
    await retried(() => deleteTaskRow(env.DB, spec, now()))
    await deleteArchive(env.PACKAGES, spec)
  }
  run.leaving!.isToldOf = run.leaving!.to === to
  save()
}
