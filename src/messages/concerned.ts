import { DEFAULT_MODULE } from '../protocol/device.ts'
import type { Sender } from './identify.ts'

/** A task that a message concerns. */
export interface Concerned {
  taskId: string
  rank: string
  /** The slot's row names this task: no other task took the slot since. */
  isHolder: boolean
}

/**
 * The tasks that a version report, a subscription or a request concerns, the newest first: those that hold or last held
 * a slot, and those that run for the product. `module` null means every module.
 */
export function concernedTasks(sender: Sender, module: string | null): Concerned[] {
  const found = new Map<string, Concerned>()
  const slots = sender.slots.filter((slot) => module === null || slot.module === module)
  const tasks = sender.tasks.filter((task) => module === null || task.module === module)
  for (const { taskId, rank } of slots) found.set(taskId, { taskId, rank, isHolder: true })
  for (const { taskId, rank } of tasks) {
    if (!found.has(taskId)) found.set(taskId, { taskId, rank, isHolder: false })
  }
  return [...found.values()].sort((a, b) => (a.rank < b.rank ? 1 : -1))
}

/**
 * The task that progress belongs to: the one that holds or last held the module's slot. Without a module it is the one
 * active upgrade or, if there are several, that of `default` (src/protocol/README.md#messages).
 */
export function taskOfProgress(sender: Sender, module: string | null): string | undefined {
  if (module !== null) return sender.slots.find((slot) => slot.module === module)?.taskId
  const active = sender.slots.filter((slot) => slot.active)
  const candidates = active.length > 0 ? active : sender.slots
  const only = candidates.length === 1 ? candidates[0] : undefined
  return (only ?? sender.slots.find((slot) => slot.module === DEFAULT_MODULE))?.taskId
}
