import type { Linker } from '../downloads/linker.ts'
import type { Env } from '../env.ts'
import type { TaskSpec } from './task.ts'
import type { TaskJournal } from './task-journal.ts'
import type { TaskQueues } from './task-queues.ts'
import type { TaskRun } from './task-run.ts'
import type { TaskStorage } from './task-storage.ts'

/** What every step of a task works with. The object makes one each time its memory is new. */
export interface TaskContext {
  env: Env
  storage: TaskStorage
  journal: TaskJournal
  queues: TaskQueues
  spec: TaskSpec
  /** As stored; whoever changes it writes it before the next `await`. */
  run: TaskRun
  rank: string
  link: Linker
  /** How often the product was frozen since the object's memory is: what was being prepared then is not sent. */
  freezes: number
}
