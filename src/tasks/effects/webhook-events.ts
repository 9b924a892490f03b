import { errorFields, logError } from '../../common/log.ts'
import type { WebhookEventType } from '../../webhooks/event.ts'
import { publishEvents } from '../../webhooks/publish.ts'
import type { TaskContext } from './task-context.ts'

const PAGE_SIZE = 100
const RETRY_AFTER_FAILURE_MS = 30_000

/** Queues an event for the tenant's webhooks; the next alarm hands it over. `data` has no links and no tokens. */
export function queueWebhookEvent(
  { spec, run, queues, now }: TaskContext,
  type: WebhookEventType,
  data: Record<string, unknown>,
): void {
  run.eventNumber++
  const { id: taskId, name: taskName, productId, targetVersion } = spec
  const event = {
    id: `evt_${taskId.replace(/^tsk_/, '')}_${run.eventNumber}`,
    type,
    at: now(),
    data: { taskId, taskName, productId, targetVersion, ...data },
  }
  queues.insertEvent(run.eventNumber, event)
}

/**
 * Hands one page of queued events over. If it is cut off before they are deleted, they go out again under the same
 * ids; if the hand-over fails, the task goes on and tries again later. Returns whether there may be more.
 */
export async function publishEventsPage({
  env,
  spec,
  run,
  queues,
  now,
  save,
}: TaskContext): Promise<boolean> {
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
    logError('task.webhook_events_failed', { task: spec.id, ...errorFields(error) })
    run.announceAfter = now() + RETRY_AFTER_FAILURE_MS
    save()
    return false
  }
  queues.deleteEvents(events.at(-1)!.number)
  return true
}
