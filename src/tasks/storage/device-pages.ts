/** Devices that are to be looked at at one time. */
export interface TimerPage {
  /** When it rings, in ms since 1970. */
  ringsAt: number
  page: number
  /** The `timer_at` of its devices' rows; a row with another value has another timer, or none. */
  at: number
  ids: string[]
}

/** Devices that ended. */
export interface OutboxPage {
  page: number
  ids: string[]
}

/** As many devices a page, so that it stays far below the 2 MB of a row. */
const MAX_IDS = 1000

export type DevicePages = ReturnType<typeof openDevicePages>

/**
 * Which devices are to be looked at when, and which outcomes are to be written to D1: lists of ids, one row a batch. An
 * index would write two rows a device. What is added is written by `flush`, at the latest in the next microtask, so that
 * it commits together with the devices' rows.
 */
export function openDevicePages(sql: SqlStorage) {
  const ending = new Set<string>()
  const waiting = new Map<number, Set<string>>()
  let isFlushPlanned = false
  /** The number of the newest page of the outbox. That page is emptied, never deleted, so that no number is used twice. */
  let last = 0
  /** The first page that was not written to D1. */
  let first = 1
  read()

  function read(): void {
    const record = sql
      .exec<{ last: number | null; first: number | null }>(
        `SELECT max(page) AS last, min(iif(ids = '[]', NULL, page)) AS first FROM outbox`,
      )
      .one()
    last = record.last ?? 0
    first = record.first ?? last + 1
  }

  function plan(): void {
    if (isFlushPlanned) return
    isFlushPlanned = true
    queueMicrotask(() => {
      isFlushPlanned = false
      flush()
    })
  }

  function flush(): void {
    if (ending.size > 0) {
      last++
      sql.exec('INSERT INTO outbox (page, ids) VALUES (?, ?)', last, JSON.stringify([...ending]))
      ending.clear()
    }
    for (const [at, ids] of waiting) insertTimer(at, at, [...ids])
    waiting.clear()
  }

  function insertTimer(ringsAt: number, at: number, ids: string[]): void {
    sql.exec(
      `INSERT INTO timers (rings_at, page, at, ids) VALUES (?1, (SELECT coalesce(max(page), 0) + 1 FROM timers WHERE rings_at = ?1), ?2, ?3)`,
      ringsAt,
      at,
      JSON.stringify(ids),
    )
  }

  return {
    flush,
    /** The transaction that added something was rolled back. */
    forget(): void {
      ending.clear()
      waiting.clear()
      read()
    },

    /** Returns the page in which the device's outcome waits. */
    addEnded(deviceId: string): number {
      if (ending.size >= MAX_IDS) flush()
      ending.add(deviceId)
      plan()
      return last + 1
    },
    firstUnwritten: () => first,
    hasEnded: () => ending.size > 0 || first <= last,
    /** Pages of about `limit` devices, the oldest first. */
    readEnded(limit: number): OutboxPage[] {
      flush()
      return readPages<OutboxPage>(
        sql.exec('SELECT page, ids FROM outbox WHERE page >= ? ORDER BY page', first),
        limit,
      )
    },
    /** All up to this page is written. */
    forgetEnded(upTo: number): void {
      first = upTo + 1
      sql.exec('DELETE FROM outbox WHERE page <= ? AND page < ?', upTo, last)
      if (upTo === last) sql.exec(`UPDATE outbox SET ids = '[]' WHERE page = ?`, last)
    },

    addTimer(at: number, deviceId: string): void {
      const ids = waiting.get(at)
      if (ids && ids.size >= MAX_IDS) flush()
      if (ids && ids.size > 0) ids.add(deviceId)
      else waiting.set(at, new Set([deviceId]))
      plan()
    },
    nextTimerAt(): number | null {
      flush()
      const [record] = sql
        .exec<{ rings_at: number }>('SELECT rings_at FROM timers ORDER BY rings_at LIMIT 1')
        .toArray()
      return record?.rings_at ?? null
    },
    /** Pages of about `limit` devices that ring, the earliest first. */
    readTimers(now: number, limit: number): TimerPage[] {
      flush()
      return readPages<TimerPage>(
        sql.exec(
          'SELECT rings_at AS ringsAt, page, at, ids FROM timers WHERE rings_at <= ? ORDER BY rings_at, page',
          now,
        ),
        limit,
      )
    },
    /** The page rang; `later` names those of its devices that are looked at again. */
    forgetTimer({ ringsAt, page, at }: TimerPage, later: { ids: string[]; ringsAt: number }): void {
      sql.exec('DELETE FROM timers WHERE rings_at = ? AND page = ?', ringsAt, page)
      if (later.ids.length > 0) insertTimer(later.ringsAt, at, later.ids)
    },
  }
}

function readPages<T extends { ids: string[] }>(
  cursor: SqlStorageCursor<Record<string, SqlStorageValue>>,
  limit: number,
): T[] {
  const pages: T[] = []
  let count = 0
  for (const record of cursor) {
    const page = { ...record, ids: JSON.parse(String(record.ids)) } as unknown as T
    pages.push(page)
    count += page.ids.length
    if (count >= limit) break
  }
  return pages
}
