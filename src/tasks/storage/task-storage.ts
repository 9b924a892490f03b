import { textReason } from '../../reasons/reason.ts'
import type { TaskSpec } from '../rules/task.ts'
import { newRun, type TaskRun } from '../rules/task-run.ts'
import { newUpgrade, UNTIL_TOLD, type Upgrade, type UpgradeStatus } from '../rules/upgrade.ts'
import { openDevicePages } from './device-pages.ts'
import {
  ASKED,
  type DeviceRecord,
  type DeviceRow,
  fromUpgrade,
  NEXT_PAGE,
  readState,
  toRow,
} from './device-row.ts'
import { writeEvents } from './history.ts'
import { isMigrated, migrate } from './migrations.ts'
import { openOfferedRows } from './offered-rows.ts'

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

/** What the notices of a device's attempt say of the package that the next one may name. */
export interface Chosen {
  index: number | null
  at100: boolean
  isOpen: boolean
}

export interface DeviceListQuery {
  status?: UpgradeStatus | undefined
  search?: string | undefined
  after: string
  limit: number
}

/** So many devices are searched for those of an open wave, in one step. */
const SCAN_LIMIT = 20_000

const IS_FULL = `state ->> '$.heldBy.code' = 'wave_is_full'`

/** Undefined for an object that holds no task: to look at it writes nothing, so that one that was deleted stays so. */
export const findTaskStorage = (storage: DurableObjectStorage): TaskStorage | undefined =>
  isMigrated(storage) ? openTaskStorage(storage) : undefined

export type TaskStorage = ReturnType<typeof openTaskStorage>

/** The task's SQLite. All calls are synchronous: what is written without an `await` between commits together. */
export function openTaskStorage(storage: DurableObjectStorage) {
  const { sql } = storage
  migrate(storage)
  const pages = openDevicePages(sql)
  const offered = openOfferedRows(sql)
  let writtenRun = ''

  function readRows(query: string, ...bindings: unknown[]): DeviceRow[] {
    const first = pages.firstUnwritten()
    const records = sql.exec<DeviceRecord>(query, ...bindings).toArray()
    return records.map((record) => offered.get(record.device_id) ?? toRow(record, first))
  }
  const readRow = (deviceId: string): DeviceRow | undefined =>
    readRows('SELECT * FROM devices WHERE device_id = ?', deviceId)[0]
  const earliestSend = () =>
    sql.exec<{ at: number | null }>('SELECT min(send_at) AS at FROM devices WHERE send_at IS NOT NULL').one()
      .at

  return {
    readTask(): { spec: TaskSpec; run: TaskRun } | undefined {
      const [record] = sql.exec<{ spec: string; run: string }>('SELECT spec, run FROM task').toArray()
      if (!record) return undefined
      writtenRun = ''
      pages.forget()
      offered.forget()
      const spec: TaskSpec = JSON.parse(record.spec)
      return { spec, run: { ...newRun(spec), ...readRun(record.run) } }
    },
    hasTask: () => sql.exec('SELECT 1 FROM task').toArray().length > 0,
    insertTask(spec: TaskSpec, run: TaskRun): void {
      sql.exec(
        'INSERT INTO task (one, spec, run) VALUES (1, ?, ?)',
        JSON.stringify(spec),
        JSON.stringify(run),
      )
    },
    writeSpec: (spec: TaskSpec) => void sql.exec('UPDATE task SET spec = ?', JSON.stringify(spec)),
    /** Writes nothing if nothing changed since the last time. */
    writeRun(run: TaskRun): void {
      pages.flush()
      const text = JSON.stringify(run)
      if (text !== writtenRun) sql.exec('UPDATE task SET run = ?', text)
      writtenRun = text
    },

    insertSelection(pages: string[][]): void {
      pages.forEach((ids, page) => {
        sql.exec('INSERT OR IGNORE INTO selection (page, ids) VALUES (?, ?)', page, JSON.stringify(ids))
      })
    },
    readSelection(page: number): string[] | undefined {
      const [record] = sql.exec<{ ids: string }>('SELECT ids FROM selection WHERE page = ?', page).toArray()
      return record && JSON.parse(record.ids)
    },

    /** Takes devices in as Pending; a device that is in already stays as it is. Returns the new ones. */
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

    pages,
    offered,
    readRow,
    /** In no order; those that are not in the task are left out. */
    readRowsOf: (deviceIds: string[]) =>
      readRows(
        'SELECT * FROM devices WHERE device_id IN (SELECT value FROM json_each(?))',
        JSON.stringify(deviceIds),
      ),

    /**
     * `sendAt`: when its notice is owed; null if none is. `timerAt`: when it is to be looked at without a message from it;
     * a timer that rings earlier than needed stays, and is set anew when it rings.
     */
    writeRow(row: DeviceRow, sendAt: number | null, timerAt: number | null): void {
      const { status, step, description, state } = fromUpgrade(row.upgrade)
      // The timer of an offer is that of its page, which the device leaves now.
      const present = offered.remove(row.deviceId) ? null : row.timerAt
      const keepsTimer = timerAt === null || (present !== null && present <= timerAt)
      if (!keepsTimer) pages.addTimer(timerAt, row.deviceId)
      sql.exec(
        `UPDATE devices SET status = ?, step = ?, description = ?, updated_at = ?, from_version = ?,
           send_at = ?, timer_at = ?, outbox = ?, state = ?, events = ?, heard = ? WHERE device_id = ?`,
        status,
        step,
        description,
        row.updatedAt,
        row.fromVersion,
        sendAt,
        timerAt !== null && keepsTimer ? present : timerAt,
        row.outbox === NEXT_PAGE ? pages.addEnded(row.deviceId) : row.outbox,
        state,
        writeEvents(row.events),
        row.heard && JSON.stringify(row.heard),
        row.deviceId,
      )
    },

    /** Its outcome was written before its page's turn; an outcome that it has since then is in a later page. */
    clearOutbox: ({ deviceId, outbox }: DeviceRow) =>
      void sql.exec('UPDATE devices SET outbox = NULL WHERE device_id = ? AND outbox = ?', deviceId, outbox),

    /**
     * The next devices after `cursor` that have not had their first turn, are owed a notice, and whose wave is open. `next`
     * is where to go on; null if there are no more.
     */
    readFresh(
      cursor: string,
      limit: number,
      isOpen: (device: { deviceId: string; wave: number | null }) => boolean,
    ): { rows: DeviceRow[]; next: string | null } {
      const rows: DeviceRow[] = []
      let next = cursor
      let scanned = 0
      for (const { device_id: deviceId, wave } of sql.exec<{ device_id: string; wave: number | null }>(
        `SELECT device_id, wave FROM devices WHERE device_id > ? AND status = 'pending' AND send_at IS NULL
           ORDER BY device_id LIMIT ?`,
        cursor,
        SCAN_LIMIT,
      )) {
        scanned++
        next = deviceId
        if (!isOpen({ deviceId, wave })) continue
        const row = readRow(deviceId)!
        if (row.upgrade.owed !== 'no') rows.push(row)
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
    /** All devices, with what tells their wave and whether they ended. */
    *readPlaced(): Generator<{ deviceId: string; wave: number | null; hasEnded: boolean }> {
      for (const { device_id, wave, ended } of sql.exec<{
        device_id: string
        wave: number | null
        ended: number
      }>(`SELECT device_id, wave, status IN ('success', 'failure', 'cancelled') AS ended FROM devices`)) {
        yield { deviceId: device_id, wave, hasEnded: ended === 1 }
      }
    },
    moveToWave: (deviceId: string, wave: number) =>
      void sql.exec('UPDATE devices SET wave = ? WHERE device_id = ?', wave, deviceId),
    /** A wave took the device from this one; the first that had it counts. */
    noteTakenFrom: (deviceId: string, wave: number) =>
      void sql.exec('INSERT OR IGNORE INTO taken_from (device_id, wave) VALUES (?, ?)', deviceId, wave),
    /** Which devices were taken from which waves. */
    readTakenFrom: (): { deviceId: string; wave: number }[] =>
      sql
        .exec<{ device_id: string; wave: number }>('SELECT device_id, wave FROM taken_from')
        .toArray()
        .map(({ device_id: deviceId, wave }) => ({ deviceId, wave })),
    forgetTakenFrom: () => void sql.exec('DELETE FROM taken_from'),
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
    /**
     * Devices that are owed a notice now; `askedOnly` if the task sends to no others. `which`: their first one of this
     * attempt, or one more.
     */
    readOwed: (now: number, askedOnly: boolean, limit: number, which: 'all' | 'first' | 'again' = 'all') =>
      readRows(
        `SELECT * FROM devices WHERE send_at <= ?1
           AND (?3 = 'all' OR (coalesce(state ->> 'pushes', 0) = 0) = (?3 = 'first'))
         ORDER BY send_at LIMIT ?2`,
        askedOnly ? ASKED : now,
        limit,
        which,
      ),
    /**
     * Of these devices, which package the notices of their attempts name (null: none yet), whether they said 100 % since, and
     * whether a notice of before may go out, or did, since they last reported. Devices of which nothing of that is known are
     * left out.
     */
    readChosen: (deviceIds: string[]): Map<string, Chosen> =>
      new Map(
        sql
          .exec<{ device_id: string; chosen: number | null; at_100: number | null; is_open: number }>(
            `SELECT device_id, state ->> 'packageIndex' AS chosen, state ->> 'reached100' AS at_100,
               state ->> 'mayGoOut' IS NOT NULL AS is_open FROM devices
             WHERE device_id IN (SELECT value FROM json_each(?)) AND (chosen IS NOT NULL OR is_open)`,
            JSON.stringify(deviceIds),
          )
          .toArray()
          .map(({ device_id, chosen, at_100, is_open }) => [
            device_id,
            { index: chosen, at100: at_100 === 1, isOpen: is_open === 1 },
          ]),
      ),
    /** Devices for which their wave has no room. */
    readFull: (after: string, limit: number) =>
      readRows(
        `SELECT * FROM devices WHERE send_at = ? AND device_id > ? AND ${IS_FULL} ORDER BY device_id LIMIT ?`,
        UNTIL_TOLD,
        after,
        limit,
      ),
    /** Devices that wait to be told something else (`UNTIL_TOLD`). */
    readHeld: (after: string, limit: number): string[] =>
      sql
        .exec<{ device_id: string }>(
          `SELECT device_id FROM devices WHERE send_at = ? AND device_id > ? AND NOT coalesce(${IS_FULL}, 0)
           ORDER BY device_id LIMIT ?`,
          UNTIL_TOLD,
          after,
          limit,
        )
        .toArray()
        .map(({ device_id }) => device_id),
    readStatuses: (statuses: UpgradeStatus[], after: string, limit: number) =>
      readRows(
        `SELECT * FROM devices WHERE device_id > ? AND status IN (SELECT value FROM json_each(?))
         ORDER BY device_id LIMIT ?`,
        after,
        JSON.stringify(statuses),
        limit,
      ),
    /** The same, and Successes that were rolled back. */
    readRetriable: (statuses: UpgradeStatus[], after: string, limit: number) =>
      readRows(
        `SELECT * FROM devices WHERE device_id > ? AND (
           status IN (SELECT value FROM json_each(?)) OR (status = 'success' AND state ->> 'rolledBack'))
         ORDER BY device_id LIMIT ?`,
        after,
        JSON.stringify(statuses),
        limit,
      ),
    readIds: (after: string, limit: number): string[] =>
      sql
        .exec<{ device_id: string }>(
          'SELECT device_id FROM devices WHERE device_id > ? ORDER BY device_id LIMIT ?',
          after,
          limit,
        )
        .toArray()
        .map(({ device_id }) => device_id),
    /** What it all takes, in bytes. */
    size: () => sql.databaseSize,
    list: ({ status, search, after, limit }: DeviceListQuery) =>
      readRows(
        `SELECT * FROM devices WHERE device_id > ?1 AND (?2 IS NULL OR status = ?2)
           AND (?3 IS NULL OR instr(lower(number), lower(?3)) > 0 OR instr(lower(coalesce(name, '')), lower(?3)) > 0)
         ORDER BY device_id LIMIT ?4`,
        after,
        status ?? null,
        search ?? null,
        limit,
      ),

    /** The state of every device, without its history. */
    *readUpgrades(): Generator<{ deviceId: string; wave: number | null; upgrade: Upgrade }> {
      for (const { device_id, wave, status, state } of sql.exec<{
        device_id: string
        wave: number | null
        status: UpgradeStatus
        state: string
      }>('SELECT device_id, wave, status, state FROM devices')) {
        const upgrade = { ...newUpgrade(), ...readState(state), status }
        yield { deviceId: device_id, wave, upgrade: offered.get(device_id)?.upgrade ?? upgrade }
      }
    },
    /** When something is owed next; null for never. `sendAt` −1 is now. */
    nextSendAt: earliestSend,
    nextAskedAt: () => (earliestSend() === ASKED ? 0 : null),
  }
}

/** Earlier releases wrote reasons down as sentences, and called `pausedBecause` `pausedReason`. */
function readRun(text: string): Partial<TaskRun> {
  const { pausedReason, blockedBy, ...run } = JSON.parse(text)
  return {
    ...(typeof pausedReason === 'string' && { pausedBecause: textReason(pausedReason) }),
    ...run,
    blockedBy: typeof blockedBy === 'string' ? textReason(blockedBy) : (blockedBy ?? null),
  }
}
