import type { WebhookEventType } from '../../webhooks/event.ts'
import { publishEvents } from '../../webhooks/publish.ts'
import type { TaskContext } from './task-context.ts'

const PAGE_SIZE = 100
const FAILED_TRY_AGAIN_MS = 30_000

/** Writes down what webhooks are to hear of; it goes out with the next alarm. No links, no tokens. */
export function announce(
  { spec, run, queues }: TaskContext,
  type: WebhookEventType,
  data: Record<string, unknown>,
  now: number,
): void {
  run.eventNumber++
  const { id: taskId, name: taskName, productId, targetVersion } = spec
  const event = {
    id: `evt_${taskId.replace(/^tsk_/, '')}_${run.eventNumber}`,
    type,
    at: now,
    data: { taskId, taskName, productId, targetVersion, ...data },
  }
  queues.insertEvent(run.eventNumber, event)
}

/**
 * Hands a page of events over. Cut off before they are forgotten, they go out again under the same ids. Where it
 * fails the task goes on, and tries again later. Answers whether there may be more.
 */
export async function announcePage(task: TaskContext, now: () => number): Promise<boolean> {
  const { env, spec, run, queues, storage } = task
  if (now() < run.announceAfter) return false
  const events = queues.readEvents(PAGE_SIZE)
  if (events.length === 0) return false
  try {
    await publishEvents(
      env,
      spec.tenantId,
      events.map(({ event }) => event),
    )
  } catch (error) {
    console.error('task.announce_failed', { task: spec.id, error: String(error) })
    run.announceAfter = now() + FAILED_TRY_AGAIN_MS
    storage.writeRun(run)
    return false
  }
  queues.deleteEvents(events.at(-1)!.number)
  return true
}
