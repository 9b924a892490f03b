import { inEnglish, type Reason, reason } from '../../reasons/reason.ts'
import type { TaskCounts } from '../rules/task.ts'
import type { FailureCause, Upgrade } from '../rules/upgrade.ts'

/** How many devices failed in the same way. */
export interface FailureCount {
  cause: FailureCause
  description: string
  /** Null for what an earlier release counted. */
  because: Reason | null
  count: number
}

/** The counts at one time (ms). */
export interface Sample {
  at: number
  counts: TaskCounts
}

/** Descriptions have the devices' own words in them: past this many, the rest counts as one. */
const MAX_FAILURE_TEXTS = 100
const OTHER = reason('other_failures')

export type TaskJournal = ReturnType<typeof openTaskJournal>

/** What a task keeps for its charts: failures by cause and text, and the counts over time. */
export function openTaskJournal({ sql }: DurableObjectStorage) {
  const count = (table: 'failures' | 'samples') =>
    sql.exec<{ count: number }>(`SELECT count(*) AS count FROM ${table}`).one().count
  const isKnown = (cause: string, text: string) =>
    sql.exec('SELECT 1 FROM failures WHERE cause = ? AND description = ?', cause, text).toArray().length > 0

  return {
    countFailure({ cause, description, reason: why }: Upgrade, change: 1 | -1): void {
      const kind = cause ?? ''
      const text = description ?? ''
      const isKept = isKnown(kind, text) || count('failures') < MAX_FAILURE_TEXTS
      const kept = isKept ? text : inEnglish(OTHER)
      sql.exec(
        `INSERT INTO failures (cause, description, count) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET count = count + ?3`,
        kind,
        kept,
        change,
      )
      const because = isKept ? why : OTHER
      if (because === null) return
      sql.exec(
        'INSERT OR IGNORE INTO failure_reasons (cause, description, reason) VALUES (?, ?, ?)',
        kind,
        kept,
        JSON.stringify(because),
      )
    },
    readFailures: (): FailureCount[] =>
      sql
        .exec<{ cause: FailureCause; description: string; count: number; reason: string | null }>(
          `SELECT cause, description, count, reason FROM failures LEFT JOIN failure_reasons USING (cause, description)
           WHERE count > 0 ORDER BY count DESC, description`,
        )
        .toArray()
        .map(({ reason, ...failure }) => ({
          ...failure,
          because: reason === null ? null : JSON.parse(reason),
        })),

    /** Returns how many there are now. */
    insertSample({ at, counts }: Sample): number {
      sql.exec('INSERT OR REPLACE INTO samples (at, counts) VALUES (?, ?)', at, JSON.stringify(counts))
      return count('samples')
    },
    /** Deletes every second one. */
    thinSamples: () =>
      void sql.exec(
        `DELETE FROM samples WHERE at IN (
           SELECT at FROM (SELECT at, row_number() OVER (ORDER BY at) AS place FROM samples) WHERE place % 2 = 0)`,
      ),
    readSamples: (): Sample[] =>
      sql
        .exec<{ at: number; counts: string }>('SELECT at, counts FROM samples ORDER BY at')
        .toArray()
        .map(({ at, counts }) => ({ at, counts: JSON.parse(counts) })),
  }
}
