import { reachedTotals } from '../rules/counts.ts'
import { type Plan, planRollout } from '../rules/rollout.ts'
import { openWave } from '../rules/task-run.ts'
import type { TaskContext } from './task-context.ts'
import { announce } from './webhook-events.ts'

/**
 * What the rules say now, carried out as far as it concerns the task itself: it halts, or opens its next wave.
 * Whoever sends asks here first, so that nothing goes out that a halt should have stopped.
 */
export function currentPlan(task: TaskContext, now: number): Plan {
  const { spec, run } = task
  for (;;) {
    const plan = planRollout(spec, run, now)
    if (plan.halt !== null) halt(task, plan.halt, now)
    else if (plan.opensWave) openNextWave(task, now)
    else {
      keepGoodSince(task, plan.goodSince)
      return plan
    }
  }
}

function halt(task: TaskContext, reason: string, now: number): void {
  const { run } = task
  run.status = 'paused'
  run.pausedReason = reason
  run.halted = true
  run.unwritten = 'status'
  announce(task, 'task.halted', { reason, ...reachedTotals(run) }, now)
  task.storage.writeRun(run)
}

/** The devices of the next wave have their first turn; an empty one is passed over. False where there is none. */
export function openNextWave(task: TaskContext, now: number): boolean {
  const { run } = task
  const index = openWave(run) + 1
  const wave = run.waves[index]
  if (!wave || run.cuts === null) return false
  wave.openedAt = now
  run.sendCursor = ''
  if (wave.devices === 0 && index > 0 && openNextWave(task, now)) return true
  if (run.waves.length > 1) {
    announce(task, 'task.wave_opened', { wave: index + 1, of: run.waves.length, devices: wave.devices }, now)
  }
  task.storage.writeRun(run)
  return true
}

function keepGoodSince({ run, storage }: TaskContext, goodSince: number | null): void {
  const wave = run.waves[openWave(run)]
  if (!wave || wave.goodSince === goodSince) return
  wave.goodSince = goodSince
  storage.writeRun(run)
}
