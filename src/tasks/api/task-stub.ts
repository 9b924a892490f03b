import type { Env } from '../../common/env.ts'

/** The one place that knows how a task's object is addressed. */
export const taskStub = (env: Env, taskId: string) => env.UPGRADE_TASK.getByName(taskId)
