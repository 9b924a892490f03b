import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { onTestFinished, vi } from 'vitest'
import { UpgradeTask } from '../../src/tasks/object/task-object.ts'

// Tests and objects share one isolate and so one clock, which a test moves instead of waiting. The platform's timer
// does not follow it, so this file rings the alarms that are due by the moved clock.

const WAIT_MS = 60_000
const LOOK_EVERY_MS = 10

const known = new Set<string>()
const working = new Map<UpgradeTask, number>()
let ahead = 0
/** The time at which `stopClock` stopped the platform's clock, ms; null while it goes on. */
let standsAt: number | null = null

const ring = UpgradeTask.prototype.alarm
/** Counts the alarms at work: an object never has two at once, and the tests must not ring a second one. */
UpgradeTask.prototype.alarm = async function (this: UpgradeTask) {
  working.set(this, (working.get(this) ?? 0) + 1)
  try {
    await ring.call(this)
  } finally {
    working.set(this, working.get(this)! - 1)
  }
}

/** From now until the test ends, `until` rings the task's alarm when it is due. */
export function watchTask(taskId: string): void {
  known.add(taskId)
  onTestFinished(() => void known.delete(taskId))
}

/** Moves the clock of this test ahead by `ms`; it goes on from there until the test ends. */
export function moveClock(ms: number): void {
  if (ahead === 0) {
    const realNow = Date.now.bind(Date)
    vi.spyOn(Date, 'now').mockImplementation(() => (standsAt ?? realNow()) + ahead)
    onTestFinished(() => {
      ahead = 0
      standsAt = null
      vi.restoreAllMocks()
    })
  }
  ahead += ms
}

/** So far ahead that the platform's timer rings no alarm that was set by the test's clock. */
const AHEAD_OF_PLATFORM_MS = 100_000

/** Stops the clock between moves until the test ends, so that tests can count exactly what goes out at each time. */
export function stopClock(): void {
  moveClock(AHEAD_OF_PLATFORM_MS)
  standsAt = Date.now() - ahead
}

/** Rings one task's alarm if it is due. Returns `busy` if the alarm was due or still works. */
async function ringIfDue(taskId: string): Promise<'busy' | 'idle'> {
  const stub = env.UPGRADE_TASK.getByName(taskId)
  const state = await runInDurableObject(stub, async (task: UpgradeTask, { storage }) => {
    const at = await storage.getAlarm()
    if ((working.get(task) ?? 0) > 0) return 'working'
    return at !== null && at <= Date.now() ? 'due' : 'idle'
  })
  if (state === 'due') await runDurableObjectAlarm(stub)
  return state === 'idle' ? 'idle' : 'busy'
}

/** Rings the alarms that are due. Returns whether any task had something to do. */
async function ringAll(): Promise<boolean> {
  const states = await Promise.all([...known].map(ringIfDue))
  return states.includes('busy')
}

/** Polls until the condition holds. After a minute it throws an error that says what it waited for. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    if (ahead > 0) await ringAll()
    if (await condition()) return
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
}

/** Waits until no task has anything left to do at this time. */
export const untilIdle = () => until('all tasks are idle', async () => !(await ringAll()))
