import type { TaskContext } from '../effects/task-context.ts'

const MINUTE_MS = 60_000
/** So many are kept; then every second one is deleted, and the next ones are taken half as often. */
const MAX_SAMPLES = 500

/** Keeps the counts for the chart over time, at most once a minute and only if they changed. */
export function sample({ run, journal, now, save }: TaskContext): void {
  const text = JSON.stringify(run.counts)
  if (text === run.sampled || now() < run.sampledAt + run.sampleMinutes * MINUTE_MS) return
  run.sampled = text
  run.sampledAt = now()
  if (journal.insertSample({ at: run.sampledAt, counts: run.counts }) > MAX_SAMPLES) {
    journal.thinSamples()
    run.sampleMinutes *= 2
  }
  save()
}

/** When the counts are to be kept next, in ms since 1970; null while they do not change. */
export const nextSampleAt = ({ run }: TaskContext): number | null =>
  JSON.stringify(run.counts) === run.sampled ? null : run.sampledAt + run.sampleMinutes * MINUTE_MS
