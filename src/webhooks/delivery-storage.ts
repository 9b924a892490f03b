import type { Delivery, Outcome } from './delivery.ts'
import type { WebhookEvent } from './event.ts'

/** Deliveries that are still to be made; further events are counted but not kept. */
export const MAX_PENDING = 10_000
/** Deliveries that are kept after their end, and for how long. */
export const MAX_ENDED = 1_000
export const KEEP_ENDED_MS = 30 * 24 * 3600_000

/** A delivery that is due, with the body to send. */
export type DueDelivery = Delivery & { body: string }

const COLUMNS = `number, id, type, at, state, attempts, due_at AS dueAt, last_attempt_at AS lastAttemptAt, status,
  error, answer`

export type DeliveryStorage = ReturnType<typeof openDeliveryStorage>

/** The deliveries in the object's SQLite. Opened anew by every call: an object may have emptied itself meanwhile. */
export function openDeliveryStorage({ sql }: DurableObjectStorage) {
  sql.exec(`CREATE TABLE IF NOT EXISTS deliveries (
      number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL,
      state TEXT NOT NULL, attempts INTEGER NOT NULL, due_at INTEGER, last_attempt_at INTEGER, ended_at INTEGER,
      status INTEGER, error TEXT, answer TEXT);
    CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;`)

  const countPending = () =>
    sql.exec<{ count: number }>('SELECT count(*) AS count FROM deliveries WHERE due_at IS NOT NULL').one()
      .count

  return {
    countPending,

    /** Adds events, each once, due now. Returns how many there was no room for. */
    insert(events: WebhookEvent[], now: number): number {
      let room = MAX_PENDING - countPending()
      let dropped = 0
      for (const { id, type, at, data } of events) {
        if (sql.exec('SELECT 1 FROM deliveries WHERE id = ?', id).toArray().length > 0) continue
        if (room === 0) {
          dropped++
          continue
        }
        const body = JSON.stringify({ type, timestamp: new Date(at).toISOString(), data })
        sql.exec(
          `INSERT INTO deliveries (id, type, at, body, state, attempts, due_at) VALUES (?, ?, ?, ?, 'pending', 0, ?)`,
          id,
          type,
          at,
          body,
          now,
        )
        room--
      }
      return dropped
    },

    readDue: (now: number, limit: number): DueDelivery[] =>
      sql
        .exec<Record<string, SqlStorageValue>>(
          `SELECT ${COLUMNS}, body FROM deliveries WHERE due_at <= ? ORDER BY due_at, number LIMIT ?`,
          now,
          limit,
        )
        .toArray() as unknown as DueDelivery[],

    /** When the next try is due, in ms since 1970; null if none is. */
    nextDue: () =>
      sql
        .exec<{ at: number | null }>('SELECT min(due_at) AS at FROM deliveries WHERE due_at IS NOT NULL')
        .one().at,

    /**
     * Writes the outcome of a try; `dueAt` (ms) is when the next one is due, null if there is none. Writes nothing if
     * the delivery was replayed meanwhile: its new tries are still to come.
     */
    writeOutcome(tried: Delivery, outcome: Outcome, dueAt: number | null, now: number): void {
      const state = outcome.error === null ? 'delivered' : dueAt === null ? 'failed' : 'pending'
      sql.exec(
        `UPDATE deliveries SET state = ?, attempts = attempts + 1, due_at = ?, last_attempt_at = ?, ended_at = ?,
           status = ?, error = ?, answer = ? WHERE number = ? AND id = ? AND attempts = ? AND due_at = ?`,
        state,
        dueAt,
        now,
        dueAt === null ? now : null,
        outcome.status,
        outcome.error,
        outcome.answer,
        tried.number,
        tried.id,
        tried.attempts,
        tried.dueAt,
      )
    },

    /** Makes all pending deliveries failed, without a further try. */
    failPending: (error: string, now: number) =>
      void sql.exec(
        `UPDATE deliveries SET state = 'failed', due_at = NULL, ended_at = ?, error = ? WHERE due_at IS NOT NULL`,
        now,
        error,
      ),

    /** Makes the delivery due now, as if it were new; undefined if it is not kept. */
    replay(id: string, now: number): Delivery | undefined {
      sql.exec(
        `UPDATE deliveries SET state = 'pending', attempts = 0, due_at = ?, ended_at = NULL WHERE id = ?`,
        now,
        id,
      )
      return sql
        .exec<Record<string, SqlStorageValue>>(`SELECT ${COLUMNS} FROM deliveries WHERE id = ?`, id)
        .toArray()[0] as unknown as Delivery | undefined
    },

    /** Newest first, those before the number `before`; one row more than `limit`, for `page`. */
    list: (before: number, limit: number): Delivery[] =>
      sql
        .exec<Record<string, SqlStorageValue>>(
          `SELECT ${COLUMNS} FROM deliveries WHERE number < ? ORDER BY number DESC LIMIT ?`,
          before,
          limit + 1,
        )
        .toArray() as unknown as Delivery[],

    /** Forgets ended deliveries that are too many or too old. */
    prune(now: number): void {
      sql.exec(
        `DELETE FROM deliveries WHERE due_at IS NULL AND (ended_at <= ? OR number <= coalesce((
           SELECT number FROM deliveries WHERE due_at IS NULL ORDER BY number DESC LIMIT 1 OFFSET ?), 0))`,
        now - KEEP_ENDED_MS,
        MAX_ENDED,
      )
    },

    /** When `prune` has something to forget by its age, in ms since 1970; null if nothing is kept. */
    nextPrune(): number | null {
      const { at } = sql
        .exec<{ at: number | null }>('SELECT min(ended_at) AS at FROM deliveries WHERE due_at IS NULL')
        .one()
      return at === null ? null : at + KEEP_ENDED_MS
    },
  }
}
