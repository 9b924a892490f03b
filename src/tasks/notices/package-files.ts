import { errorFields, logWarning } from '../../common/log.ts'
import { lookAtFile } from '../../links/stored-file.ts'
import { type Reason, reason } from '../../reasons/reason.ts'
import type { TaskContext } from '../effects/task-context.ts'
import type { TaskPackage } from '../rules/task.ts'

/** A look counts this long, for all devices: the bucket charges for each. */
const LOOK_COUNTS_MS = 60_000
/** One that found a fault, so that the task goes on soon after the file is back. */
const FAULT_COUNTS_MS = 15_000

interface Look {
  until: number
  fault: Reason | null
}

/** In memory: a task that was loaded anew looks anew. */
const looks = new WeakMap<TaskContext, Map<string, Look>>()

/** Why no notice of these packages may go out: the file of one is not in the bucket as it was verified. Null if all are. */
export async function filesFault(task: TaskContext, packages: TaskPackage[]): Promise<Reason | null> {
  const known = looks.get(task) ?? new Map<string, Look>()
  looks.set(task, known)
  const found = await Promise.all(
    packages.map(async (pkg) => {
      const last = known.get(pkg.id)
      if (last && task.now() < last.until) return last.fault
      const fault = await look(task, pkg)
      known.set(pkg.id, { until: task.now() + (fault ? FAULT_COUNTS_MS : LOOK_COUNTS_MS), fault })
      return fault
    }),
  )
  return found.find((fault) => fault !== null) ?? null
}

/** A download found no file: the next turn looks again. */
export const forgetLooks = (task: TaskContext): void => void looks.delete(task)

async function look({ env, spec }: TaskContext, pkg: TaskPackage): Promise<Reason | null> {
  try {
    return (await lookAtFile(env.PACKAGES, pkg)).fault
  } catch (error) {
    logWarning('platform.unavailable', { task: spec.id, package: pkg.id, ...errorFields(error) })
    return reason('bucket_unavailable')
  }
}
