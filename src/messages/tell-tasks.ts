import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import type { ItemResult } from '../protocol/bridge.ts'
import { taskStub } from '../tasks/api/task-stub.ts'
import type { Gathered } from './gather.ts'

/** Calls each task concerned once. If a call fails, its messages are to be sent again; they change nothing twice. */
export async function tellTasks(env: Env, gathered: Gathered): Promise<void> {
  await Promise.all(
    [...gathered.toTasks].map(async ([taskId, messages]) => {
      try {
        await taskStub(env, taskId).deliver(messages.map(({ message }) => message))
      } catch (error) {
        logError('receive.task_failed', { taskId, ...errorFields(error) })
        for (const { item, message } of messages) {
          // That a device is there shows again soon enough; its message went to another task.
          if (message.event.type !== 'seen') retry(gathered.results, item)
        }
      }
    }),
  )
}

export function retry(results: ItemResult[], item: number): void {
  const result = results[item]
  if (result?.status === 'taken') results[item] = { id: result.id, status: 'retry', reason: 'try again' }
}
