import { NO_COUNTS, type TaskCounts, type TaskSpec, type TaskStatus } from './task.ts'
import { isEnded, newUpgrade, type Upgrade, type UpgradeStatus } from './upgrade.ts'

/** How far the task has come; one row, written together with the devices that it counts. */
export interface TaskRun {
  status: TaskStatus
  pausedReason: string | null
  startedAt: number | null
  finishedAt: number | null
  counts: TaskCounts
  /** The next page of devices to take in; null when all are. */
  enrolment: { cursor: string } | null
  /** Devices up to here had their first turn; null when all had. */
  sendCursor: string | null
  /** The task was cancelled or reached its end: devices up to here were ended. Null while it goes on. */
  endCursor: string | null
  /** All devices that the end concerns were ended. */
  ended: boolean
  /** No notice before this time: no credit, no bridge, or the product is frozen. */
  blockedUntil: number
  blockedBy: string | null
  /** What of the task's row in D1 is old. */
  unwritten: 'no' | 'counts' | 'status'
  writtenAt: number
}

/** A task that was just created, and runs at once where its start has come. */
export const newRun = ({ startAt, createdAt }: TaskSpec): TaskRun => ({
  status: startAt <= createdAt ? 'running' : 'scheduled',
  pausedReason: null,
  startedAt: startAt <= createdAt ? createdAt : null,
  finishedAt: null,
  counts: { ...NO_COUNTS },
  enrolment: { cursor: '' },
  sendCursor: '',
  endCursor: null,
  ended: false,
  blockedUntil: 0,
  blockedBy: null,
  unwritten: 'status',
  writtenAt: 0,
})

/** What happened, when, why, and the fingerprint of the message that caused it. */
export interface HistoryEvent {
  at: number
  kind: string
  detail: string | null
  /** The state that it led to, where it changed. */
  status?: UpgradeStatus
  /** Tells a repeated message from a new one. */
  key?: string
}

export interface DeviceRow {
  deviceId: string
  number: string
  name: string | null
  fromVersion: string | null
  updatedAt: number
  /** Its outcome is still to be written to D1. */
  outbox: boolean
  timerAt: number | null
  upgrade: Upgrade
  events: HistoryEvent[]
}

export interface NewDevice {
  deviceId: string
  number: string
  name: string | null
  fromVersion: string | null
}

export interface DeviceListQuery {
  status?: UpgradeStatus | undefined
  search?: string | undefined
  after: string
  limit: number
}

const MAX_EVENTS = 50
const MAX_EVENTS_BYTES = 8 * 1024
/** `sendAt` of a device that asked: it is served although the task is paused. */
const ASKED = -1

/** Append-only: each entry runs once, in order. */
const MIGRATIONS = [
  `CREATE TABLE task (one INTEGER PRIMARY KEY CHECK (one = 1), spec TEXT NOT NULL, run TEXT NOT NULL);
   CREATE TABLE selection (page INTEGER PRIMARY KEY, ids TEXT NOT NULL);
   CREATE TABLE devices (
     device_id TEXT PRIMARY KEY, number TEXT NOT NULL, name TEXT, from_version TEXT,
     status TEXT NOT NULL, step INTEGER, description TEXT, updated_at INTEGER NOT NULL,
     -- A notice is owed, not before then; null also before its first turn, which the cursor finds.
     send_at INTEGER,
     -- A lease or a silence to look at.
     timer_at INTEGER,
     outbox INTEGER,
     state TEXT NOT NULL, events TEXT NOT NULL
   ) WITHOUT ROWID;
   CREATE INDEX devices_send ON devices (send_at) WHERE send_at IS NOT NULL;
   CREATE INDEX devices_timer ON devices (timer_at) WHERE timer_at IS NOT NULL;
   CREATE INDEX devices_outbox ON devices (outbox) WHERE outbox IS NOT NULL;`,
]

export type TaskStorage = ReturnType<typeof openTaskStorage>

/** The task's SQLite. All calls are synchronous: what is written without an `await` between commits together. */
export function openTaskStorage(storage: DurableObjectStorage) {
  const { sql } = storage
  migrate(storage)
  let writtenRun = ''

  function* readRows(query: string, ...bindings: unknown[]): Generator<DeviceRow> {
    for (const record of sql.exec<DeviceRecord>(query, ...bindings)) yield toRow(record)
  }
  const readRow = (deviceId: string) =>
    readRows('SELECT * FROM devices WHERE device_id = ?', deviceId).next().value as DeviceRow | undefined
  const earliest = (column: 'send_at' | 'timer_at') =>
    sql
      .exec<{ at: number | null }>(`SELECT min(${column}) AS at FROM devices WHERE ${column} IS NOT NULL`)
      .one().at

  return {
    readTask(): { spec: TaskSpec; run: TaskRun } | undefined {
      const [record] = sql.exec<{ spec: string; run: string }>('SELECT spec, run FROM task').toArray()
      return record && { spec: JSON.parse(record.spec), run: JSON.parse(record.run) }
    },
    insertTask(spec: TaskSpec, run: TaskRun): void {
      sql.exec('INSERT INTO task VALUES (1, ?, ?)', JSON.stringify(spec), JSON.stringify(run))
    },
    writeSpec: (spec: TaskSpec) => void sql.exec('UPDATE task SET spec = ?', JSON.stringify(spec)),
    /** Writes nothing where nothing changed since the last time. */
    writeRun(run: TaskRun): void {
      const text = JSON.stringify(run)
      if (text !== writtenRun) sql.exec('UPDATE task SET run = ?', text)
      writtenRun = text
    },

    insertSelection(pages: string[][]): void {
      pages.forEach((ids, page) => {
        sql.exec('INSERT OR IGNORE INTO selection VALUES (?, ?)', page, JSON.stringify(ids))
      })
    },
    readSelection(page: number): string[] | undefined {
      const [record] = sql.exec<{ ids: string }>('SELECT ids FROM selection WHERE page = ?', page).toArray()
      return record && JSON.parse(record.ids)
    },

    /** Takes devices in as Pending; one that is in already is left alone. Answers how many were new. */
    insertDevices(devices: NewDevice[], now: number): number {
      let inserted = 0
      const { status, step, description, state } = fromUpgrade(newUpgrade())
      for (const device of devices) {
        const cursor = sql.exec(
          `INSERT INTO devices (device_id, number, name, from_version, status, step, description, updated_at, state, events)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '[]') ON CONFLICT DO NOTHING`,
          device.deviceId,
          device.number,
          device.name,
          device.fromVersion,
          status,
          step,
          description,
          now,
          state,
        )
        if (cursor.rowsWritten > 0) inserted++
      }
      return inserted
    },

    readRow,

    /** `timerAt` is when the device is to be looked at without a message from it; see `keepTimer`. */
    writeRow(row: DeviceRow, timerAt: number | null): void {
      const { status, step, description, state } = fromUpgrade(row.upgrade)
      sql.exec(
        `UPDATE devices SET status = ?, step = ?, description = ?, updated_at = ?, from_version = ?,
           send_at = ?, timer_at = ?, outbox = ?, state = ?, events = ? WHERE device_id = ?`,
        status,
        step,
        description,
        row.updatedAt,
        row.fromVersion,
        sendAt(row.upgrade),
        keepTimer(row.timerAt, timerAt),
        row.outbox ? 1 : null,
        state,
        JSON.stringify(trim(row.events)),
        row.deviceId,
      )
    },

    clearOutbox: (deviceId: string) =>
      void sql.exec('UPDATE devices SET outbox = NULL WHERE device_id = ?', deviceId),

    /** Devices whose first turn has not come, in order after `cursor`. */
    readFresh: (cursor: string, limit: number) => [
      ...readRows(
        `SELECT * FROM devices WHERE device_id > ? AND status = 'pending' AND send_at IS NULL
         ORDER BY device_id LIMIT ?`,
        cursor,
        limit,
      ),
    ],
    /** Devices that are owed a notice now; `askedOnly` where the task sends to no others. */
    readOwed: (now: number, askedOnly: boolean, limit: number) => [
      ...readRows(
        'SELECT * FROM devices WHERE send_at <= ? ORDER BY send_at LIMIT ?',
        askedOnly ? ASKED : now,
        limit,
      ),
    ],
    readTimers: (now: number, limit: number) => [
      ...readRows('SELECT * FROM devices WHERE timer_at <= ? ORDER BY timer_at LIMIT ?', now, limit),
    ],
    readOutbox: (limit: number) => [...readRows('SELECT * FROM devices WHERE outbox = 1 LIMIT ?', limit)],
    readStatuses: (statuses: UpgradeStatus[], after: string, limit: number) => [
      ...readRows(
        `SELECT * FROM devices WHERE device_id > ? AND status IN (SELECT value FROM json_each(?))
         ORDER BY device_id LIMIT ?`,
        after,
        JSON.stringify(statuses),
        limit,
      ),
    ],
    list: ({ status, search, after, limit }: DeviceListQuery) => [
      ...readRows(
        `SELECT * FROM devices WHERE device_id > ?1 AND (?2 IS NULL OR status = ?2)
           AND (?3 IS NULL OR instr(lower(number), lower(?3)) > 0 OR instr(lower(coalesce(name, '')), lower(?3)) > 0)
         ORDER BY device_id LIMIT ?4`,
        after,
        status ?? null,
        search ?? null,
        limit,
      ),
    ],

    /** When something is owed or to be looked at next; null for never. `sendAt` −1 is now. */
    nextSendAt: () => earliest('send_at'),
    nextAskedAt: () => (earliest('send_at') === ASKED ? 0 : null),
    nextTimerAt: () => earliest('timer_at'),
    hasOutbox: () => sql.exec('SELECT 1 FROM devices WHERE outbox = 1 LIMIT 1').toArray().length > 0,
  }
}

interface DeviceRecord extends Record<string, SqlStorageValue> {
  device_id: string
  number: string
  name: string | null
  from_version: string | null
  status: UpgradeStatus
  step: number | null
  description: string | null
  updated_at: number
  timer_at: number | null
  outbox: number | null
  state: string
  events: string
}

function toRow(record: DeviceRecord): DeviceRow {
  const { status, step, description } = record
  return {
    deviceId: record.device_id,
    number: record.number,
    name: record.name,
    fromVersion: record.from_version,
    updatedAt: record.updated_at,
    outbox: record.outbox === 1,
    timerAt: record.timer_at,
    upgrade: { ...JSON.parse(record.state), status, step, description },
    events: JSON.parse(record.events),
  }
}

/** What lists filter by and show stands in columns of its own, the rest in one. */
function fromUpgrade(upgrade: Upgrade) {
  const { status, step, description, ...rest } = upgrade
  return { status, step, description, state: JSON.stringify(rest) }
}

function sendAt(upgrade: Upgrade): number | null {
  if (upgrade.owed === 'no' || isEnded(upgrade.status)) return null
  return upgrade.heldUntil ?? (upgrade.owed === 'asked' ? ASKED : 0)
}

/**
 * A timer that would ring earlier than needed stays, and is reckoned anew when it rings: so the messages of a
 * device under way do not each write the index.
 */
const keepTimer = (present: number | null, next: number | null) =>
  present !== null && next !== null && present <= next ? present : next

/** The last 50 events and 8 KB of a device are kept. */
function trim(events: HistoryEvent[]): HistoryEvent[] {
  const kept = events.slice(-MAX_EVENTS)
  let bytes = 0
  const first = kept.findLastIndex((event) => {
    bytes += JSON.stringify(event).length + 1
    return bytes > MAX_EVENTS_BYTES
  })
  return kept.slice(first + 1)
}

function migrate(storage: DurableObjectStorage): void {
  const done = storage.kv.get<number>('schemaVersion') ?? 0
  if (done === MIGRATIONS.length) return
  storage.transactionSync(() => {
    for (const statements of MIGRATIONS.slice(done)) storage.sql.exec(statements)
    storage.kv.put('schemaVersion', MIGRATIONS.length)
  })
}
