import type { BridgeOrder } from './order.ts'
import type { TaskSpec } from './task.ts'
import { newRun, type TaskRun } from './task-run.ts'
import { isEnded, newUpgrade, type Upgrade, type UpgradeStatus } from './upgrade.ts'

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
  /** Null where the place of the device says its wave (`waves.ts`). */
  wave: number | null
  /** The last message of a bridge that was taken; null before. */
  heard: BridgeOrder | null
  upgrade: Upgrade
  events: HistoryEvent[]
}

export interface NewDevice {
  deviceId: string
  number: string
  name: string | null
  fromVersion: string | null
  /** Null for all that are taken in before the devices are spread over the waves. */
  wave: number | null
  /** Its first turn is due at once: the cursor has passed. */
  isDue: boolean
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
/** Devices that are looked through for those whose wave is open, in one step. */
const SCAN_LIMIT = 20_000

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
  `ALTER TABLE devices ADD COLUMN wave INTEGER;
   UPDATE task SET spec = json_remove(json_set(spec, '$.module', spec ->> '$.package.module',
     '$.targetVersion', spec ->> '$.package.version', '$.packages', json_array(json(spec -> '$.package'))), '$.package');
   CREATE TABLE failures (cause TEXT, description TEXT, count INTEGER NOT NULL, PRIMARY KEY (cause, description)) WITHOUT ROWID;
   CREATE TABLE samples (at INTEGER PRIMARY KEY, counts TEXT NOT NULL);
   CREATE TABLE events (number INTEGER PRIMARY KEY, event TEXT NOT NULL);
   CREATE TABLE newcomers (device_id TEXT PRIMARY KEY) WITHOUT ROWID;
   CREATE TABLE farewells (device_id TEXT PRIMARY KEY, notice_id INTEGER, try_at INTEGER NOT NULL, tries INTEGER NOT NULL) WITHOUT ROWID;`,
  'ALTER TABLE devices ADD COLUMN heard TEXT;',
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
      if (!record) return undefined
      writtenRun = ''
      const spec: TaskSpec = JSON.parse(record.spec)
      return { spec, run: { ...newRun(spec), ...JSON.parse(record.run) } }
    },
    hasTask: () => sql.exec('SELECT 1 FROM task').toArray().length > 0,
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

    /** Takes devices in as Pending; one that is in already is left alone. Answers those that were new. */
    insertDevices(devices: NewDevice[], now: number): NewDevice[] {
      const inserted: NewDevice[] = []
      const { status, step, description, state } = fromUpgrade(newUpgrade())
      for (const device of devices) {
        const cursor = sql.exec(
          `INSERT INTO devices (device_id, number, name, from_version, status, step, description, updated_at, wave, send_at, state, events)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '[]') ON CONFLICT DO NOTHING`,
          device.deviceId,
          device.number,
          device.name,
          device.fromVersion,
          status,
          step,
          description,
          now,
          device.wave,
          device.isDue ? 0 : null,
          state,
        )
        if (cursor.rowsWritten > 0) inserted.push(device)
      }
      return inserted
    },

    readRow,

    /**
     * `sendAt`: when its notice is owed; null where none is. `timerAt`: when it is to be looked at without a
     * message from it; see `keepTimer`.
     */
    writeRow(row: DeviceRow, sendAt: number | null, timerAt: number | null): void {
      const { status, step, description, state } = fromUpgrade(row.upgrade)
      sql.exec(
        `UPDATE devices SET status = ?, step = ?, description = ?, updated_at = ?, from_version = ?,
           send_at = ?, timer_at = ?, outbox = ?, state = ?, events = ?, heard = ? WHERE device_id = ?`,
        status,
        step,
        description,
        row.updatedAt,
        row.fromVersion,
        sendAt,
        keepTimer(row.timerAt, timerAt),
        row.outbox ? 1 : null,
        state,
        JSON.stringify(trim(row.events)),
        row.heard && JSON.stringify(row.heard),
        row.deviceId,
      )
    },

    clearOutbox: (deviceId: string) =>
      void sql.exec('UPDATE devices SET outbox = NULL WHERE device_id = ?', deviceId),

    /**
     * The next devices after `cursor` whose first turn has not come and whose wave is open. `next` is where to go
     * on; null where there are no more.
     */
    readFresh(
      cursor: string,
      limit: number,
      isOpen: (device: { deviceId: string; wave: number | null }) => boolean,
    ): { rows: DeviceRow[]; next: string | null } {
      const rows: DeviceRow[] = []
      let next = cursor
      let scanned = 0
      for (const { device_id: deviceId, wave } of sql
        .exec<{ device_id: string; wave: number | null }>(
          `SELECT device_id, wave FROM devices WHERE device_id > ? AND status = 'pending' AND send_at IS NULL
           ORDER BY device_id LIMIT ?`,
          cursor,
          SCAN_LIMIT,
        )
        .toArray()) {
        scanned++
        next = deviceId
        if (isOpen({ deviceId, wave })) rows.push(readRow(deviceId)!)
        if (rows.length === limit) return { rows, next }
      }
      return { rows, next: scanned < SCAN_LIMIT ? null : next }
    },
    /** The devices that are to be spread over the waves. */
    *readUnplaced(): Generator<string> {
      for (const { device_id } of sql.exec<{ device_id: string }>(
        'SELECT device_id FROM devices WHERE wave IS NULL',
      )) {
        yield device_id
      }
    },
    *readPending(): Generator<{ deviceId: string; wave: number | null }> {
      for (const { device_id, wave } of sql.exec<{ device_id: string; wave: number | null }>(
        "SELECT device_id, wave FROM devices WHERE status = 'pending'",
      )) {
        yield { deviceId: device_id, wave }
      }
    },
    /** At most `limit` of the devices before this one still wait for their first turn. */
    countAhead: (cursor: string, deviceId: string, limit: number): number =>
      sql
        .exec<{ count: number }>(
          `SELECT count(*) AS count FROM (SELECT 1 FROM devices WHERE device_id > ? AND device_id < ?
             AND status = 'pending' AND send_at IS NULL LIMIT ?)`,
          cursor,
          deviceId,
          limit,
        )
        .one().count,
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
  wave: number | null
  state: string
  events: string
  heard: string | null
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
    wave: record.wave,
    heard: record.heard === null ? null : JSON.parse(record.heard),
    // A row of an earlier version lacks what came later.
    upgrade: { ...newUpgrade(), ...JSON.parse(record.state), status, step, description },
    events: JSON.parse(record.events),
  }
}

/** What lists filter by and show stands in columns of its own, the rest in one. */
function fromUpgrade(upgrade: Upgrade) {
  const { status, step, description, ...rest } = upgrade
  return { status, step, description, state: JSON.stringify(rest) }
}

/** From when on a notice is owed; null where none is. */
export function owedAt(upgrade: Upgrade): number | null {
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
