import { retried } from '../../common/retries.ts'
import { forgetDevices } from '../database/removal.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { unfinished } from '../rules/task.ts'
import type { Leaving } from '../rules/task-run.ts'
import { type Refusal, refuse } from './operator-calls.ts'
import { settlePage } from './settle.ts'

const FORGET_PAGE_SIZE = 500

/** 409 unless the task is over, for good or until somebody retries, and has nothing left to do for any device. */
export function whyNotLeave({ run }: TaskContext): Refusal | null {
  const isOver = run.status === 'finished' || run.status === 'cancelled'
  if (isOver && unfinished(run.counts) === 0 && run.retrying === 0) return null
  return refuse(
    'task.not_ended',
    'The task has not ended: cancel it, and wait until no device of it is upgrading.',
  )
}

/** From here on nothing changes in the task; a deletion takes over from an archiving that is under way. */
export function leave({ run, save }: TaskContext, to: Leaving['to']): void {
  if (run.leaving === null) run.leaving = { to, isToldOf: false, cursor: '' }
  else if (to === 'deleted' && run.leaving.to === 'archived')
    run.leaving = { ...run.leaving, to, isToldOf: false }
  save()
}

/**
 * Writes what is still to be written of its devices to D1, or takes the next page of them out of it. Returns whether there
 * may be more. What was cut off is done again, and changes nothing twice.
 */
export async function forgetPage(task: TaskContext): Promise<boolean> {
  if (await settlePage(task)) return true
  const { env, spec, run, storage, save } = task
  const { cursor } = run.leaving!
  const deviceIds = storage.readIds(cursor, FORGET_PAGE_SIZE)
  if (deviceIds.length > 0) await retried(() => forgetDevices(env.DB, spec, deviceIds))
  run.leaving!.cursor = deviceIds.at(-1) ?? cursor
  save()
  return deviceIds.length === FORGET_PAGE_SIZE
}
