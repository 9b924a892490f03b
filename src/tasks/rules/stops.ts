import type { Stop, TaskRun } from './task-run.ts'

// Links through the Worker stop while the task is paused or its product frozen. What devices do not do meanwhile is not
// their fault (src/protocol/README.md#states). Pure.

const MAX_STOPS = 20

/** Notes that a stop began or ended. Returns the same list if nothing changed. */
export function withStop(run: TaskRun, now: number): Stop[] {
  const { stops } = run
  const last = stops.at(-1)
  const isStopped = run.linksStop && (run.status === 'paused' || run.frozen)
  if (isStopped === (last?.to === null)) return stops
  if (isStopped) return [...stops, { from: now, to: null }].slice(-MAX_STOPS)
  return [...stops.slice(0, -1), { ...last!, to: now }]
}

export const areLinksStopped = ({ stops }: TaskRun) => stops.at(-1)?.to === null

/** Up to when links were last stopped; null if they never were. */
export function linksStoppedUntil({ stops }: TaskRun, now: number): number | null {
  const last = stops.at(-1)
  return last === undefined ? null : (last.to ?? now)
}

/** For how long, in ms, links were stopped since `from`. */
export const stoppedMs = ({ stops }: TaskRun, from: number, now: number) =>
  stops.reduce((sum, stop) => sum + Math.max(0, (stop.to ?? now) - Math.max(stop.from, from)), 0)
