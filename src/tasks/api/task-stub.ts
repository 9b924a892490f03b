import type { Env } from '../../common/env.ts'
import { repeating } from '../../common/retries.ts'
import type { UpgradeTask } from '../object/task-object.ts'

/** Calls that change nothing twice (src/protocol/README.md#order-and-outages). */
const REPEATABLE = [
  'create',
  'leave',
  'view',
  'devices',
  'device',
  'progress',
  'patch',
  'pause',
  'resume',
  'cancel',
  'deliver',
  'ask',
  'handOut',
  'openDownload',
  'freeze',
  'unfrozen',
  'recalled',
  'newcomers',
  'wake',
] as const satisfies (keyof UpgradeTask)[]

/** A task's object: its name is the task's id. */
export const taskStub = (env: Env, taskId: string): DurableObjectStub<UpgradeTask> =>
  repeating(() => env.UPGRADE_TASK.getByName(taskId) as unknown as DurableObjectStub<UpgradeTask>, REPEATABLE)
