import type { TaskSpec, TaskStatus } from './task.ts'

/** What the rules say at one moment: the one place that decides what is due in a task (PROTOCOL.md, 4). */
export interface Plan {
  /** May Pending and Pushed devices be sent anything now? */
  open: boolean
  /** May an Upgrading device that asks be sent the notice again? Also while paused or past the end. */
  asks: boolean
  /** At most so many notices now. */
  quota: number
  /** When the answer may change by itself, in ms; null where only an event changes it. */
  lookAgainAt: number | null
  /** Why nothing is sent, for operators; null while open. */
  closedBecause: string | null
}

/** Notices in one page: enough to keep a bridge busy, few enough for one D1 statement and one frame. */
export const NOTICE_PAGE_SIZE = 200

/** What may be sent now, given the task's state and the clock; the object only carries it out. */
export function planRollout(
  spec: Pick<TaskSpec, 'startAt' | 'endAt'>,
  status: TaskStatus,
  now: number,
): Plan {
  const closed = (closedBecause: string, lookAgainAt: number | null = null, asks = false): Plan => ({
    open: false,
    asks,
    quota: 0,
    lookAgainAt,
    closedBecause,
  })
  if (status === 'cancelled') return closed('the task was cancelled')
  if (status === 'finished') return closed('the task is finished')
  if (spec.endAt !== null && now >= spec.endAt) return closed("the task's end was reached", null, true)
  if (now < spec.startAt)
    return closed(`the task starts at ${new Date(spec.startAt).toISOString()}`, spec.startAt)
  if (status === 'paused') return closed('the task is paused', spec.endAt, true)
  return { open: true, asks: true, quota: NOTICE_PAGE_SIZE, lookAgainAt: spec.endAt, closedBecause: null }
}
