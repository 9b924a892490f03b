import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { onTestFinished, vi } from 'vitest'
import { UpgradeTask } from '../../src/tasks/object/task-object.ts'

// Tests and objects share one isolate, so one clock: a test moves it instead of waiting. The platform's own timer
// does not follow, so alarms that are due by the moved clock are rung here.

const WAIT_MS = 10_000
const LOOK_EVERY_MS = 10

const known = new Set<string>()
const working = new Map<UpgradeTask, number>()
let ahead = 0
/** Where the platform's clock is taken to stand; null while it goes on. */
let standsAt: number | null = null

const ring = UpgradeTask.prototype.alarm
/** Counts the alarms at work: an object never has two at once, and the tests must not make it so. */
UpgradeTask.prototype.alarm = async function (this: UpgradeTask) {
  working.set(this, (working.get(this) ?? 0) + 1)
  try {
    await ring.call(this)
  } finally {
    working.set(this, working.get(this)! - 1)
  }
}

/** Until the test ends the task's alarm is looked after. */
export function watchTask(taskId: string): void {
  known.add(taskId)
  onTestFinished(() => void known.delete(taskId))
}

/** Moves the clock of this test ahead; it goes on from there until the test ends. */
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

/** So far ahead no alarm that is set by the test's clock comes up by the platform's. */
const AHEAD_OF_PLATFORM_MS = 100_000

/** Until the test ends its clock stands still between moves: what goes out at each time is exact. */
export function stopClock(): void {
  moveClock(AHEAD_OF_PLATFORM_MS)
  standsAt = Date.now() - ahead
}

/** Rings one task's alarm if it is due. `busy`: there was, or is, something to do. */
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

/** Rings what is due. Answers whether any task had something to do. */
async function ringAll(): Promise<boolean> {
  const states = await Promise.all([...known].map(ringIfDue))
  return states.includes('busy')
}

/** Polls until the condition holds; fails, with what it waited for, after 10 s. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    if (ahead > 0) await ringAll()
    if (await condition()) return
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
}

/** Waits until no task has anything left to do at this time. */
export const untilIdle = () => until('all tasks are idle', async () => !(await ringAll()))
