import { iso } from '../../common/time.ts'
import { reason } from '../../reasons/reason.ts'
import { writeTaskRow } from '../database/task-row.ts'
import { changeDevice, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { publishEventsPage, queueWebhookEvent } from '../effects/webhook-events.ts'
import { cancellationsPage, queueCancellation } from '../notices/cancellations.ts'
import { sendPage } from '../notices/send-notices.ts'
import { reachedTotals } from '../rules/counts.ts'
import { earliest, type Plan, planRollout } from '../rules/rollout.ts'
import { unfinished } from '../rules/task.ts'
import { openWave, type TaskRun } from '../rules/task-run.ts'
import type { UpgradeEvent, UpgradeStatus } from '../rules/upgrade.ts'
import { enrolPage, joinPage } from './enrol.ts'
import { nextSampleAt, sample } from './samples.ts'
import { settlePage } from './settle.ts'
import { timersPage } from './timers.ts'

const END_PAGE_SIZE = 500
/** Counts go to D1 for lists at most this often; the object always has the present ones. */
const COUNTS_WRITE_MS = 10_000
/** The alarm rings at least this often. */
const LOOK_ALL_THE_SAME_MS = 30 * 24 * 3_600_000
/** After this the alarm ends and is set anew, so that one run stays short. */
const WORK_FOR_MS = 10_000

/**
 * Does what is due in the task, a page at a time, until nothing is left. Every step reads its position from storage and
 * writes its progress together with its effects, so that the next alarm goes on wherever this one was cut off.
 */
export async function work(task: TaskContext): Promise<void> {
  const { now } = task
  const until = now() + WORK_FOR_MS
  let busy = true
  while (busy && now() < until) {
    start(task)
    busy = await endPage(task)
    if (task.run.enrolment && task.run.endCursor === null) {
      await enrolPage(task)
      busy = true
    }
    busy = (await joinPage(task)) || busy
    // Before a retry may begin, the outcome of its last attempt is written.
    busy = (await settlePage(task)) || busy
    busy = (await timersPage(task)) || busy
    busy = (await sendPage(task)) || busy
    busy = (await cancellationsPage(task)) || busy
    finish(task)
    sample(task)
    await writeBack(task)
    busy = (await publishEventsPage(task)) || busy
  }
}

/** When the task is to be looked at next, in ms since 1970; null for never. */
export function nextAlarm(task: TaskContext): number | null {
  const { run, spec, storage, queues } = task
  const now = task.now()
  const times: (number | null)[] = [storage.pages.nextTimerAt(), storage.offered.nextLeaseAt()]
  if (storage.pages.hasEnded() || run.unwritten === 'status') times.push(now)
  if (run.unwritten === 'counts') times.push(run.writtenAt + COUNTS_WRITE_MS)
  if (run.endCursor !== null && !run.ended) times.push(now)
  if (run.enrolment !== null && run.endCursor === null) times.push(now)
  if (isDone(task)) times.push(now)
  if (run.joining !== null && isRunning(run)) times.push(queues.hasNewcomers() ? now : run.joining.at)
  if (queues.hasEvents()) times.push(run.announceAfter)
  times.push(nextSampleAt(task), queues.nextCancellationAt())
  const plan = planRollout(spec, run, now)
  if (plan.halt !== null || plan.opensWave || isNewlyGood(run, plan)) times.push(now)
  times.push(plan.lookAgainAt)
  const sendAt = plan.open ? storage.nextSendAt() : plan.asks ? storage.nextAskedAt() : null
  const notBefore = Math.max(run.blockedUntil, plan.quotaAt ?? 0)
  if (sendAt !== null) times.push(Math.max(sendAt, notBefore))
  if (plan.open && run.cuts !== null && run.sendCursor !== null && run.enrolment === null)
    times.push(notBefore)
  const due = earliest(...times)
  return due === null ? null : Math.min(Math.max(due, now), now + LOOK_ALL_THE_SAME_MS)
}

/** The time from which a wave soaks is new and not written yet. */
const isNewlyGood = (run: TaskRun, { goodSince }: Plan) =>
  goodSince !== (run.waves[openWave(run)]?.goodSince ?? null)

const isRunning = ({ status, ended }: TaskRun) => (status === 'running' || status === 'paused') && !ended

/** A scheduled task starts: devices that were made since it was created are taken in too. */
function start(task: TaskContext): void {
  const { run, spec, now, save } = task
  if (run.eventNumber === 0 && run.startedAt !== null) queueStarted(task)
  if (run.status !== 'scheduled' || now() < spec.startAt) return
  run.status = 'running'
  run.startedAt = now()
  run.unwritten = 'status'
  run.enrolment = { cursor: '' }
  run.sendCursor = ''
  queueStarted(task)
  save()
}

const queueStarted = (task: TaskContext) =>
  queueWebhookEvent(task, 'task.started', { startAt: iso(task.spec.startAt) })

/** The task was cancelled, or its end came: its devices end page by page. Returns whether there is more to do. */
async function endPage(task: TaskContext): Promise<boolean> {
  const { run, spec, storage, now, save } = task
  if (run.endCursor === null && spec.endAt !== null && now() >= spec.endAt) {
    run.endCursor = ''
    run.enrolment = null
    save()
  }
  if (run.endCursor === null || run.ended) return false
  const isCancelled = run.status === 'cancelled'
  const concerned: UpgradeStatus[] = ['pending', 'pushed', 'failure']
  if (isCancelled) concerned.push('upgrading')
  const event: UpgradeEvent = isCancelled
    ? { type: 'cancelled', reason: reason('task_cancelled') }
    : { type: 'endReached' }
  const rows = storage.readStatuses(concerned, run.endCursor, END_PAGE_SIZE)
  for (const row of rows) {
    const happens: UpgradeEvent = row.upgrade.status === 'failure' ? { type: 'notRetried' } : event
    const changed = changeDevice(task, row, happens, { code: 'ended' })
    if (changed === row) continue
    queueCancellation(task, changed)
    writeDevice(task, changed)
  }
  run.endCursor = rows.at(-1)?.deviceId ?? run.endCursor
  run.ended = rows.length < END_PAGE_SIZE
  save()
  return true
}

/** A task is finished once all its devices have ended; a retry opens it again. */
function finish(task: TaskContext): void {
  const { run, now, save } = task
  if (!isDone(task)) return
  run.status = 'finished'
  run.pausedBecause = null
  run.finishedAt = now()
  run.unwritten = 'status'
  queueWebhookEvent(task, 'task.finished', { counts: run.counts, ...reachedTotals(run) })
  save()
}

/** Have all devices ended? A task that was paused before its start is not done: more devices may join until then. */
const isDone = ({ run, spec }: TaskContext) =>
  (run.status === 'running' || run.status === 'paused') &&
  (run.ended || (run.startedAt !== null && !spec.policy.dynamic)) &&
  run.enrolment === null &&
  run.retrying === 0 &&
  unfinished(run.counts) === 0

/** What the task's row in D1 shows. */
const shown = ({ spec, run }: TaskContext) =>
  JSON.stringify([
    run.counts,
    run.status,
    run.pausedBecause,
    run.finishedAt,
    spec.name,
    spec.description,
    spec.endAt,
    spec.policy,
  ])

async function writeBack(task: TaskContext): Promise<void> {
  const { run, now, save } = task
  if (run.unwritten === 'no') return
  if (run.unwritten === 'counts' && now() < run.writtenAt + COUNTS_WRITE_MS) return
  const written = shown(task)
  await writeTaskRow(task.env.DB, task)
  // A change that came while the row was being written is written the next time.
  if (shown(task) === written) run.unwritten = 'no'
  run.writtenAt = now()
  save()
}
