import type { Env } from '../../common/env.ts'
import type { UpgradeTask } from '../object/task-object.ts'

/** A task's object: its name is the task's id. */
export const taskStub = (env: Env, taskId: string) =>
  env.UPGRADE_TASK.getByName(taskId) as unknown as DurableObjectStub<UpgradeTask>
