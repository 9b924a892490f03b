import { newUpgrade } from '../rules/upgrade.ts'
import { type DeviceRecord, type DeviceRow, fromUpgrade, readState, toRow } from './device-row.ts'
import { type NamedEvent, readNamedEvents, toNamedEvents } from './history.ts'

/** What an offer changes in a row that was never written since it was taken in. */
type Entry = [deviceId: string, state: string, updatedAt: number, events: NamedEvent[]]

interface Page {
  leaseUntil: number
  /** Devices whose own rows were not written since. */
  left: Set<string>
}

/** So many devices a page: far below the 2 MB of a row. */
const MAX_ROWS = 1000

export type OfferedRows = ReturnType<typeof openOfferedRows>

/**
 * Devices whose first notice is on its way. What the offer changes in them is written as one row for all; it goes into
 * their own rows with what happens next, the bridge's answer or the end of the lease. They are few: as many as the
 * bridges have credit for. Every reader of a row asks here first.
 */
export function openOfferedRows(sql: SqlStorage) {
  const rows = new Map<string, { row: DeviceRow; page: number }>()
  const pages = new Map<number, Page>()
  load()

  function load(): void {
    rows.clear()
    pages.clear()
    const stored = sql
      .exec<{ page: number; lease_until: number; entries: string }>('SELECT * FROM offers')
      .toArray()
    for (const { page, lease_until: leaseUntil, entries } of stored) {
      const left = new Set<string>()
      pages.set(page, { leaseUntil, left })
      for (const [deviceId, state, updatedAt, events] of JSON.parse(entries) as Entry[]) {
        const [record] = sql
          .exec<DeviceRecord>(`SELECT * FROM devices WHERE device_id = ? AND events = '[]'`, deviceId)
          .toArray()
        if (!record) continue
        const upgrade = { ...newUpgrade(), ...readState(state) }
        rows.set(deviceId, {
          page,
          row: {
            ...toRow(record, 0),
            upgrade,
            updatedAt,
            events: readNamedEvents(events),
            timerAt: leaseUntil,
          },
        })
        left.add(deviceId)
      }
    }
  }

  return {
    /** The transaction that wrote last was rolled back. */
    forget: load,
    get: (deviceId: string) => rows.get(deviceId)?.row,

    add(offered: DeviceRow[], leaseUntil: number): void {
      for (let at = 0; at < offered.length; at += MAX_ROWS) {
        const some = offered.slice(at, at + MAX_ROWS)
        const page = Math.max(0, ...pages.keys()) + 1
        const entries = some.map(
          ({ deviceId, upgrade, updatedAt, events }): Entry => [
            deviceId,
            fromUpgrade(upgrade).state,
            updatedAt,
            toNamedEvents(events),
          ],
        )
        sql.exec(
          'INSERT INTO offers (page, lease_until, entries) VALUES (?, ?, ?)',
          page,
          leaseUntil,
          JSON.stringify(entries),
        )
        pages.set(page, { leaseUntil, left: new Set(some.map(({ deviceId }) => deviceId)) })
        for (const row of some) rows.set(row.deviceId, { page, row: { ...row, timerAt: leaseUntil } })
      }
    },

    /** The device's own row is being written. Returns whether it was one of these. */
    remove(deviceId: string): boolean {
      const known = rows.get(deviceId)
      if (!known) return false
      rows.delete(deviceId)
      const { left } = pages.get(known.page)!
      left.delete(deviceId)
      if (left.size === 0) {
        pages.delete(known.page)
        sql.exec('DELETE FROM offers WHERE page = ?', known.page)
      }
      return true
    },

    nextLeaseAt: (): number | null =>
      pages.size === 0 ? null : Math.min(...[...pages.values()].map(({ leaseUntil }) => leaseUntil)),
    /** Devices whose lease ran out. */
    expired: (now: number): DeviceRow[] =>
      [...pages.values()]
        .filter(({ leaseUntil }) => leaseUntil <= now)
        .flatMap(({ left }) => [...left].map((deviceId) => rows.get(deviceId)!.row)),
  }
}
