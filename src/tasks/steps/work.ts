import { iso } from '../../common/time.ts'
import { inEnglish, reason } from '../../reasons/reason.ts'
import { writeTaskRow } from '../database/task-row.ts'
import { changeDevice, isSilenceWatched, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { publishEventsPage, queueWebhookEvent } from '../effects/webhook-events.ts'
import { cancellationsPage, queueCancellation } from '../notices/cancellations.ts'
import { lookAtHeld, nextHeldLook } from '../notices/held.ts'
import { admissible, admitPage } from '../notices/room.ts'
import { sendPage } from '../notices/send-notices.ts'
import { reachedTotals } from '../rules/counts.ts'
import { earliest, type Plan, planRollout, stalledAt } from '../rules/rollout.ts'
import { unfinished } from '../rules/task.ts'
import { openWave, type TaskRun } from '../rules/task-run.ts'
import type { UpgradeEvent, UpgradeStatus } from '../rules/upgrade.ts'
import { waveWaits } from '../rules/wave-waits.ts'
import { enrolPage, joinPage } from './enrol.ts'
import { nextSampleAt, sample } from './samples.ts'
import { settlePage } from './settle.ts'
import { timersPage } from './timers.ts'
import { topUpPage } from './top-up.ts'

const END_PAGE_SIZE = 500
/** Counts go to D1 for lists at most this often; the object always has the present ones. */
const COUNTS_WRITE_MS = 10_000
/** The alarm rings at least this often. */
const LOOK_ALL_THE_SAME_MS = 30 * 24 * 3_600_000
/** After this the alarm ends and is set anew, so that one run stays short. */
const WORK_FOR_MS = 10_000
/** The same, since D1 takes 1,000 statements of one alarm: a turn makes up to 60, if everything is to do at once. */
const MAX_TURNS = 16

/**
 * Does what is due in the task, a page at a time, until nothing is left. Every step reads its position from storage and
 * writes its progress together with its effects, so that the next alarm goes on wherever this one was cut off.
 */
export async function work(task: TaskContext): Promise<void> {
  const { now } = task
  const until = now() + WORK_FOR_MS
  let busy = true
  for (let turn = 0; busy && turn < MAX_TURNS && task.run.leaving === null && now() < until; turn++) {
    start(task)
    busy = await endPage(task)
    if (task.run.enrolment && task.run.endCursor === null) {
      await enrolPage(task)
      busy = true
    }
    busy = (await joinPage(task)) || busy
    // Before a retry may begin, the outcome of its last attempt is written.
    busy = (await settlePage(task)) || busy
    busy = timeoutPage(task) || busy
    busy = (await timersPage(task)) || busy
    busy = (await heldPage(task)) || busy
    busy = (await topUpPage(task)) || busy
    busy = admitPage(task) || busy
    busy = (await sendPage(task)) || busy
    busy = (await cancellationsPage(task)) || busy
    finish(task)
    tellStalled(task)
    sample(task)
    await writeBack(task)
    busy = (await publishEventsPage(task)) || busy
  }
}

/** When the task is to be looked at next, in ms since 1970; null for never. */
export function nextAlarm(task: TaskContext): number | null {
  const { run, spec, storage, queues } = task
  const now = task.now()
  if (run.leaving !== null) return now
  const times: (number | null)[] = [storage.pages.nextTimerAt(), storage.offered.nextLeaseAt()]
  if (storage.pages.hasEnded() || run.unwritten === 'status') times.push(now)
  if (run.unwritten === 'counts') times.push(run.writtenAt + COUNTS_WRITE_MS)
  if (run.endCursor !== null && !run.ended) times.push(now)
  if (run.enrolment !== null && run.endCursor === null) times.push(now)
  if (isDone(task)) times.push(now)
  if (run.joining !== null && isRunning(run))
    times.push(queues.hasNewcomers() ? now : Math.max(run.joining.at, task.joinNotBefore))
  if (queues.hasEvents()) times.push(run.announceAfter)
  times.push(nextSampleAt(task), queues.nextCancellationAt())
  const plan = planRollout(spec, run, now)
  if (plan.halt !== null || plan.opensWave || plan.fills > 0 || plan.topsUp > 0 || isNews(run, plan))
    times.push(now)
  times.push(plan.lookAgainAt, stalledAt(spec, run, now))
  if (run.timeoutCursor !== null) times.push(now)
  if (plan.open && admissible(task) > 0) times.push(Math.max(now, run.blockedUntil))
  const sendAt = plan.open ? storage.nextSendAt() : plan.asks ? storage.nextAskedAt() : null
  const notBefore = Math.max(run.blockedUntil, plan.quotaAt ?? 0)
  if (sendAt !== null) times.push(Math.max(sendAt, notBefore))
  const heldAt = plan.open ? nextHeldLook(task) : null
  if (heldAt !== null) times.push(Math.max(heldAt, run.blockedUntil))
  if (plan.open && run.cuts !== null && run.sendCursor !== null && run.enrolment === null)
    times.push(notBefore)
  const due = earliest(...times)
  return due === null ? null : Math.min(Math.max(due, now), now + LOOK_ALL_THE_SAME_MS)
}

/** A time from which a wave soaks or lacks devices, or its window is open, is new and not written yet. */
function isNews(run: TaskRun, { goodSince, lackingSince, windowSince }: Plan): boolean {
  const wave = run.waves[openWave(run)]
  if (windowSince !== run.windowSince) return true
  return goodSince !== (wave?.goodSince ?? null) || lackingSince !== (wave?.lackingSince ?? null)
}

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

/** An open wave has not moved for a day: webhooks are told once why. */
function tellStalled(task: TaskContext): void {
  const { spec, run, now, save } = task
  const at = stalledAt(spec, run, now())
  if (at === null || now() < at) return
  const because = waveWaits(task, openWave(run) + 1)
  queueWebhookEvent(task, 'task.stalled', {
    since: iso(run.movedAt),
    reason: inEnglish(because),
    because,
    ...reachedTotals(run),
  })
  run.saidStalled = true
  save()
}

const TIMEOUT_PAGE_SIZE = 500
const WATCHED: UpgradeStatus[] = ['pushed', 'upgrading', 'success']

/** The device timeout was changed: when each device is silent for too long is reckoned anew. Returns whether there is more. */
function timeoutPage(task: TaskContext): boolean {
  const { run, storage, save } = task
  if (run.timeoutCursor === null) return false
  const rows = storage.readStatuses(WATCHED, run.timeoutCursor, TIMEOUT_PAGE_SIZE)
  for (const row of rows) {
    const changed = changeDevice(task, row, { type: 'timeoutChanged' }, { code: 'timeout_changed' })
    if (isSilenceWatched(changed.upgrade)) writeDevice(task, { ...changed, timerAt: null })
  }
  run.timeoutCursor = rows.length < TIMEOUT_PAGE_SIZE ? null : rows.at(-1)!.deviceId
  save()
  return true
}

/** Looks at devices that wait to be told something, when it is time. */
async function heldPage(task: TaskContext): Promise<boolean> {
  const { run, spec, now } = task
  const at = nextHeldLook(task)
  if (at === null || now() < Math.max(at, run.blockedUntil)) return false
  return planRollout(spec, run, now()).open && lookAtHeld(task)
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
