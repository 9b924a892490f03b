import type { Env } from '../../common/env.ts'
import type { Linker } from '../../links/linker.ts'
import type { Reason } from '../../reasons/reason.ts'
import type { TaskSpec } from '../rules/task.ts'
import type { TaskRun } from '../rules/task-run.ts'
import type { TaskJournal } from '../storage/task-journal.ts'
import type { TaskQueues } from '../storage/task-queues.ts'
import type { TaskStorage } from '../storage/task-storage.ts'

/** What every step of a task works with. The object makes one each time it is loaded into memory. */
export interface TaskContext {
  env: Env
  storage: TaskStorage
  journal: TaskJournal
  queues: TaskQueues
  spec: TaskSpec
  /** In memory; a step that changes it calls `save` before its next `await`. */
  run: TaskRun
  rank: string
  link: Linker
  /** How often the product was frozen since the object was loaded: a notice prepared before a freeze is not sent. */
  freezes: number
  /** Of the notices being prepared, the devices that said something new since: they are looked at again. */
  outdated: Set<Set<string>>
  /** The signatures of which packages were checked, under which policy, and why nothing may be sent; null before. */
  signatures: { checked: string; fault: Reason | null } | null
  /** The round in which devices that wait to be told something were last looked at, and where it is to go on. */
  held: { round: number; cursor: string | null } | null
  /** A long search for devices that make up for missing ones: of this wave, up to this place. */
  behind: { wave: number; place: number } | null
  /** A dynamic task has looked for devices that joined, and found none: not before this time again. */
  joinNotBefore: number
  /** Milliseconds since 1970. */
  now: () => number
  /** Writes `run`. It commits together with the rows that were written since the last `await`. */
  save: () => void
}
