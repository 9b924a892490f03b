import { changeStored } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { takeTurn } from './turn.ts'

// Devices that wait to be told something: that they are enabled, their slot is free, or their version is certain. A call
// may be lost, so they are also looked at every 15 minutes. Nothing is written for that: the rounds are counted from when
// the first of them began to wait.

const LOOK_AGAIN_MS = 15 * 60_000
/** An object that is loaded so soon after a round was due was most likely loaded for it. */
const LATE_MS = 5 * 60_000
const PAGE_SIZE = 200

const roundAt = ({ run }: TaskContext, at: number) => Math.floor((at - run.heldFrom) / LOOK_AGAIN_MS)

/** When they are looked at next (ms since 1970); null if no device waits. */
export function nextHeldLook(task: TaskContext): number | null {
  if (task.storage.readHeld('', 1).length === 0) return null
  task.held ??= { round: roundAt(task, task.now() - LATE_MS), cursor: null }
  const { round, cursor } = task.held
  return cursor === null ? task.run.heldFrom + (round + 1) * LOOK_AGAIN_MS : task.now()
}

/** Looks at a page of them, and writes only what has changed. Returns whether there may be more. */
export async function lookAtHeld(task: TaskContext): Promise<boolean> {
  const { storage, now, save } = task
  const held = storage.readHeld(task.held?.cursor ?? '', PAGE_SIZE)
  const turn = held.length === 0 ? null : await takeTurn(task, held)
  for (const { id } of turn?.devices ?? []) {
    changeStored(task, id, { type: 'lookAgain' }, { code: 'waits_no_more' })
  }
  save()
  const hasMore = turn !== null && held.length === PAGE_SIZE
  task.held = { round: roundAt(task, now()), cursor: hasMore ? held.at(-1)! : null }
  return hasMore
}
