import { setTimeout as delay } from 'node:timers/promises'
import type { TaskView } from '../../src/tasks/object/task-view.ts'
import { type TaskCounts, unfinished } from '../../src/tasks/rules/task.ts'
import type { Api } from './api-client.ts'
import { bars, type Display, inOneLine, number, seconds } from './display.ts'
import type { Fleet } from './fleet.ts'
import { agrees, hasEnded, type ReportedDevice } from './truth.ts'

const POLL_INTERVAL_MS = 500
/** Once all devices have ended, the report may stay unchanged this long before watching ends. */
const SETTLES_WITHIN_MS = 30_000

/** Draws the task and the fleet until the task is finished or can no longer change. */
export async function watchTask(
  api: Api,
  taskId: string,
  fleet: Fleet,
  display: Display,
  signal: AbortSignal,
): Promise<TaskView> {
  const begun = performance.now()
  let last = ''
  let stillSince = begun
  for (;;) {
    const task = await api.task(taskId)
    const now = performance.now()
    draw(display, task, fleet, now - begun)
    const progress = JSON.stringify(task.counts)
    if (progress !== last) stillSince = now
    last = progress
    if (task.status === 'finished' || task.status === 'cancelled') return task
    if (isSettled(task.counts, fleet) && now - stillSince > POLL_INTERVAL_MS) return task
    if (fleetEnded(fleet) && now - stillSince > SETTLES_WITHIN_MS) return task
    await delay(POLL_INTERVAL_MS, undefined, { signal })
  }
}

const states = (fleet: Fleet) => [...fleet.truth().values()].map(({ state }) => state)
const fleetEnded = (fleet: Fleet) => states(fleet).every(hasEnded)

/** True if only silent devices are unfinished: the server waits for them until the device timeout. */
function isSettled(counts: TaskCounts, fleet: Fleet): boolean {
  const silent = states(fleet).filter((state) => state === 'silent').length
  return counts.total > 0 && silent > 0 && fleetEnded(fleet) && unfinished(counts) <= silent
}

function draw(display: Display, task: TaskView, fleet: Fleet, elapsedMs: number): void {
  const { stats } = fleet
  const rate = `${number(stats.messagesPerSecond)} messages/s`
  const traffic = `${number(stats.acknowledged)} messages up, ${number(stats.notices)} notices down, ${rate}`
  const block = [
    `Task "${task.name}" is ${task.status}, ${seconds(elapsedMs)}`,
    ...bars(task.counts),
    `  ${traffic}`,
  ]
  display.update(block, `${seconds(elapsedMs).padStart(8)}  ${inOneLine(task.counts)}; ${rate}`)
}

/** The devices for which the server's report differs from their own view. */
export async function findDifferences(
  api: Api,
  taskId: string,
  fleet: Fleet,
): Promise<{ number: string; truth: string; reported: string }[]> {
  const differences = []
  const unseen = new Map(fleet.truth())
  for await (const reported of api.taskDevices(taskId)) {
    const truth = unseen.get(reported.number)
    unseen.delete(reported.number)
    if (truth && agrees(truth, reported)) continue
    differences.push({
      number: reported.number,
      truth: truth ? storyOf(truth.state, truth.step) : 'not simulated',
      reported: reportOf(reported),
    })
  }
  for (const [number, truth] of unseen) {
    differences.push({ number, truth: storyOf(truth.state, truth.step), reported: 'not in the task' })
  }
  return differences
}

const storyOf = (state: string, step: number | null) => (step === null ? state : `${state} (${step})`)
const reportOf = ({ status, step, rolledBack }: ReportedDevice) =>
  storyOf(rolledBack ? `${status}, rolled back` : status, step)
