import { inEnglish, type Reason } from '../../reasons/reason.ts'
import { reachedTotals } from '../rules/counts.ts'
import { type Plan, planRollout } from '../rules/rollout.ts'
import { openWave } from '../rules/task-run.ts'
import { fillWave, giveBack } from './fill-wave.ts'
import type { TaskContext } from './task-context.ts'
import { queueWebhookEvent } from './webhook-events.ts'

/**
 * Carries out what the rules say now about the task itself: it halts the task, opens the next wave or fills up the open
 * one. Returns what may be sent after that. Every step that sends calls this first, so that nothing goes out after a halt.
 */
export function applyPlan(task: TaskContext): Plan {
  const { spec, run, now } = task
  for (;;) {
    const plan = planRollout(spec, run, now())
    if (plan.halt !== null) halt(task, plan.halt)
    else if (plan.opensWave) openNextWave(task)
    else if (plan.fills > 0) fillWave(task, plan.fills)
    else {
      keepSince(task, plan)
      return plan
    }
  }
}

function halt(task: TaskContext, why: Reason): void {
  const { run, save } = task
  run.status = 'paused'
  run.pausedBecause = why
  run.halted = true
  run.unwritten = 'status'
  queueWebhookEvent(task, 'task.halted', { reason: inEnglish(why), because: why, ...reachedTotals(run) })
  save()
}

/** Opens the next wave; an empty one is passed over. Returns false if all waves are open. */
export function openNextWave(task: TaskContext): boolean {
  const { run, now, save } = task
  const index = openWave(run) + 1
  const wave = run.waves[index]
  if (!wave || run.cuts === null) return false
  if (index > 0) giveBack(task)
  wave.openedAt = now()
  run.movedAt = now()
  run.saidStalled = false
  run.polled = false
  run.sendCursor = ''
  if (wave.devices === 0 && index > 0 && openNextWave(task)) return true
  if (run.waves.length > 1) {
    const { devices } = wave
    queueWebhookEvent(task, 'task.wave_opened', { wave: index + 1, of: run.waves.length, devices })
  }
  save()
  return true
}

function keepSince(task: TaskContext, { goodSince, lackingSince, windowSince }: Plan): void {
  const { run, save } = task
  if (run.windowSince !== windowSince) {
    run.windowSince = windowSince
    save()
  }
  const wave = run.waves[openWave(run)]
  if (!wave || (wave.goodSince === goodSince && wave.lackingSince === lackingSince)) return
  Object.assign(wave, { goodSince, lackingSince })
  save()
}
