import type { Reason } from '../../reasons/reason.ts'
import { signatureFault } from '../../signing/policy.ts'
import { parseSigningPolicy } from '../../signing/store.ts'
import type { TaskContext } from '../effects/task-context.ts'
import type { TaskPackage } from '../rules/task.ts'

/**
 * Why none of these packages may go out under this signing policy of the product (src/signing/README.md); null if all may.
 * The task's own copies are checked, since these are what goes out, whatever the packages' rows say by now. They do not
 * change, so this is done once for each policy.
 */
export async function unsignedBecause(
  task: TaskContext,
  packages: TaskPackage[],
  signing: string,
): Promise<Reason | null> {
  const checked = [signing, ...packages.map(({ id }) => id)].join()
  if (task.signatures?.checked !== checked) {
    const policy = parseSigningPolicy(signing)
    const faults = await Promise.all(packages.map((pkg) => signatureFault(pkg, policy)))
    task.signatures = { checked, fault: faults.find((fault) => fault !== null) ?? null }
  }
  return task.signatures.fault
}
