import type { Env } from '../../common/env.ts'
import type { Linker } from '../../links/linker.ts'
import type { TaskSpec } from '../rules/task.ts'
import type { TaskRun } from '../rules/task-run.ts'
import type { TaskJournal } from '../storage/task-journal.ts'
import type { TaskQueues } from '../storage/task-queues.ts'
import type { TaskStorage } from '../storage/task-storage.ts'

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
