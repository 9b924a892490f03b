import type { WebhookEvent } from '../../webhooks/event.ts'

/** A device that is to be told that its upgrade was cancelled. */
export interface QueuedCancellation {
  deviceId: string
  /** The message's id, once it has one: it goes out again under the same. */
  noticeId: number | null
  tries: number
}

export type TaskQueues = ReturnType<typeof openTaskQueues>

/** What a task has still to do besides its notices; an entry is deleted once its effect is certain. */
export function openTaskQueues({ sql }: DurableObjectStorage) {
  return {
    insertEvent: (number: number, event: WebhookEvent) =>
      void sql.exec(
        'INSERT OR REPLACE INTO events (number, event) VALUES (?, ?)',
        number,
        JSON.stringify(event),
      ),
    readEvents: (limit: number): { number: number; event: WebhookEvent }[] =>
      sql
        .exec<{ number: number; event: string }>('SELECT * FROM events ORDER BY number LIMIT ?', limit)
        .toArray()
        .map(({ number, event }) => ({ number, event: JSON.parse(event) })),
    deleteEvents: (upTo: number) => void sql.exec('DELETE FROM events WHERE number <= ?', upTo),

    /** A device outside the task sent a message: it may match by now. */
    insertNewcomer: (deviceId: string) =>
      void sql.exec('INSERT OR IGNORE INTO newcomers (device_id) VALUES (?)', deviceId),
    readNewcomers: (limit: number): string[] =>
      sql
        .exec<{ device_id: string }>('SELECT device_id FROM newcomers LIMIT ?', limit)
        .toArray()
        .map((record) => record.device_id),
    deleteNewcomers: (deviceIds: string[]) =>
      void sql.exec(
        'DELETE FROM newcomers WHERE device_id IN (SELECT value FROM json_each(?))',
        JSON.stringify(deviceIds),
      ),

    insertCancellation: (deviceId: string, now: number) =>
      void sql.exec(
        'INSERT OR IGNORE INTO farewells (device_id, try_at, tries) VALUES (?, ?, 0)',
        deviceId,
        now,
      ),
    /** Those that are to be sent now. */
    readCancellations: (now: number, limit: number): QueuedCancellation[] =>
      sql
        .exec<CancellationRecord>('SELECT * FROM farewells WHERE try_at <= ? LIMIT ?', now, limit)
        .toArray()
        .map(toCancellation),
    offerCancellation: (deviceId: string, noticeId: number, tryAgainAt: number) =>
      void sql.exec(
        'UPDATE farewells SET notice_id = ?, try_at = ?, tries = tries + 1 WHERE device_id = ?',
        noticeId,
        tryAgainAt,
        deviceId,
      ),
    readCancellation: (deviceId: string): QueuedCancellation | undefined => {
      const [record] = sql
        .exec<CancellationRecord>('SELECT * FROM farewells WHERE device_id = ?', deviceId)
        .toArray()
      return record && toCancellation(record)
    },
    /** The bridge did not take it: it is tried again, under this id if it still has it. */
    postponeCancellation: (deviceId: string, noticeId: number, tryAgainAt: number) =>
      void sql.exec(
        'UPDATE farewells SET try_at = ? WHERE device_id = ? AND notice_id = ?',
        tryAgainAt,
        deviceId,
        noticeId,
      ),
    waitWithCancellation: (deviceId: string, until: number) =>
      void sql.exec('UPDATE farewells SET try_at = ? WHERE device_id = ?', until, deviceId),
    deleteCancellation: (deviceId: string) =>
      void sql.exec('DELETE FROM farewells WHERE device_id = ?', deviceId),
    nextCancellationAt: () =>
      sql.exec<{ at: number | null }>('SELECT min(try_at) AS at FROM farewells').one().at,
    hasEvents: () => sql.exec('SELECT 1 FROM events LIMIT 1').toArray().length > 0,
    hasNewcomers: () => sql.exec('SELECT 1 FROM newcomers LIMIT 1').toArray().length > 0,
  }
}

interface CancellationRecord extends Record<string, SqlStorageValue> {
  device_id: string
  notice_id: number | null
  tries: number
}

const toCancellation = ({ device_id, notice_id, tries }: CancellationRecord): QueuedCancellation => ({
  deviceId: device_id,
  noticeId: notice_id,
  tries,
})
