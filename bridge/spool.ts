import { randomBytes } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { z } from 'zod'
import { type BatchItemInput, leaseNumber } from '../src/protocol/bridge.ts'
import { type Damage, type Damaged, DamagedError, openDatabaseFile } from './database-file.ts'

type WithoutIdentity<T> = T extends unknown ? Omit<T, 'id' | 'at' | 'lease' | 'seq'> : never

/** A batch item before the spool gives it its id. */
export type SpoolItem = WithoutIdentity<BatchItemInput>

export interface SpoolEntry {
  /** The username whose order the item belongs to; empty if it concerns no single device. */
  key: string
  /** Worker time (ms) at which the item came in; null if the bridge did not know the Worker's time yet. */
  at: number | null
  /** A SpoolItem as JSON text. */
  body: string
}

export interface SpooledItem {
  seq: number
  key: string
  id: string
  /** The batch item as JSON text, ASCII only. */
  json: string
  size: number
}

/** `own`: the lease under which messages are taken in. `known`: the highest that the bridge knows. null: none yet. */
export interface SpoolLease {
  own: number | null
  known: number | null
}

export interface Spool {
  /** The spool's random name, kept as long as its file. It also names the bridge that uses the spool. */
  instance(): string
  lease(): SpoolLease
  /** Writes the lease to disk; throws if that fails. */
  setLease(lease: SpoolLease): void
  /** Writes all entries in this order in one transaction. Throws if the disk is full or the hard limit is reached. */
  append(entries: readonly SpoolEntry[]): void
  /**
   * Returns the oldest items in order, except those of `exceptKeys`: at most `limit` items and `maxBytes`, but always
   * one if there is any; of one device at most `limitOfDevice`, so that its backlog does not hold up others.
   */
  peek(limit: number, maxBytes: number, exceptKeys: readonly string[], limitOfDevice?: number): SpooledItem[]
  /** The arrival of the oldest item, but for those of `exceptKeys`; undefined if there is none. */
  oldest(exceptKeys?: readonly string[]): { at: number | null } | undefined
  /** Deletes these items; those of a file that was replaced since are gone already. */
  drop(items: readonly SpooledItem[]): void
  /** Moves an item that the Worker cannot read to the table `dead`, for a person to look at. */
  moveToDeadLetters(item: SpooledItem, reason: string): void
  deadLetters(): { id: string; json: string; reason: string }[]
  depth(): number
  bytes(): number
  damage: Damage
  /** Size of the items of one key. */
  bytesOf(key: string): number
  close(): void
}

const PAGE_BYTES = 4096
const MAX_DEAD_LETTERS = 1000

const storedLease = z.object({ own: leaseNumber.nullable(), known: leaseNumber.nullable() })
const NAME = /^[A-Za-z0-9_-]{6}$/

interface SpoolOptions {
  sync: 'normal' | 'full'
  hardLimitBytes?: number | undefined
  onDamaged?: (damaged: Damaged) => void
}

function prepareFile(db: DatabaseSync, { sync, hardLimitBytes }: SpoolOptions): void {
  // Exclusive: two bridges on one file would post everything twice.
  db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = ${sync};
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS items (seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, at INTEGER,
      lease INTEGER, body TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS dead (seq INTEGER PRIMARY KEY, body TEXT NOT NULL, reason TEXT NOT NULL) STRICT;`)
  const hasLease = db.prepare(`SELECT 1 FROM pragma_table_info('items') WHERE name = 'lease'`).get()
  // Files of earlier versions have no such column.
  if (!hasLease) db.exec('ALTER TABLE items ADD COLUMN lease INTEGER')
  if (hardLimitBytes !== undefined) {
    db.exec(`PRAGMA max_page_count = ${Math.ceil(hardLimitBytes / PAGE_BYTES)}`)
  }
  db.prepare(`INSERT OR IGNORE INTO meta VALUES ('id', ?)`).run(
    randomBytes(5).toString('base64url').slice(0, 6),
  )
}

/**
 * Opens the write-ahead spool (src/README.md#bridge): one table in one order, in a file that only one bridge may open.
 * Item ids are the spool's random name and a sequence that never restarts, so they are unique for ever. The file cannot
 * grow past `hardLimitBytes`. A damaged file is moved aside, and the spool goes on as a new one with a name of its own.
 */
export function openSpool(file: string, options: SpoolOptions): Spool {
  const { use, damage } = openDatabaseFile({
    file,
    open: () => createSpool(file, options),
    onDamaged: options.onDamaged,
  })
  return {
    instance: () => use((spool) => spool.instance()),
    lease: () => use((spool) => spool.lease()),
    setLease: (lease) => use((spool) => spool.setLease(lease)),
    append: (entries) => use((spool) => spool.append(entries)),
    peek: (...what) => use((spool) => spool.peek(...what)),
    oldest: (...what) => use((spool) => spool.oldest(...what)),
    drop: (items) => use((spool) => spool.drop(items)),
    moveToDeadLetters: (item, reason) => use((spool) => spool.moveToDeadLetters(item, reason)),
    deadLetters: () => use((spool) => spool.deadLetters()),
    depth: () => use((spool) => spool.depth()),
    bytes: () => use((spool) => spool.bytes()),
    bytesOf: (key) => use((spool) => spool.bytesOf(key)),
    damage,
    close: () => use((spool) => spool.close()),
  }
}

function createSpool(file: string, options: SpoolOptions): Omit<Spool, 'damage'> {
  const db = new DatabaseSync(file, { timeout: 2_000 })
  try {
    prepareFile(db, options)
    return overDatabase(db)
  } catch (error) {
    // Left open, it would keep the lock, and the next try would fail.
    db.close()
    throw error
  }
}

function overDatabase(db: DatabaseSync): Omit<Spool, 'damage'> {
  const readMeta = (what: string) =>
    (db.prepare('SELECT value FROM meta WHERE name = ?').get(what) as { value: string } | undefined)?.value
  const name = readMeta('id') ?? ''
  if (!NAME.test(name)) throw new DamagedError('its name is none')
  const itemId = (seq: number) => name + seq.toString(36)

  const count = db.prepare(
    'SELECT key, count(*) AS depth, sum(length(body)) AS bytes FROM items GROUP BY key',
  )
  const insert = db.prepare('INSERT INTO items (key, at, lease, body) VALUES (?, ?, ?, ?)')
  const select = db.prepare(`SELECT seq, key, at, lease, body FROM items
    WHERE seq > ? AND key NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?`)
  const oldest = db.prepare(`SELECT at FROM items
    WHERE key NOT IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT 1`)
  const remove = db.prepare('DELETE FROM items WHERE seq IN (SELECT value FROM json_each(?))')
  const copyToDead = db.prepare('INSERT OR REPLACE INTO dead SELECT seq, body, ? FROM items WHERE seq = ?')
  const trimDead = db.prepare(
    'DELETE FROM dead WHERE seq NOT IN (SELECT seq FROM dead ORDER BY seq DESC LIMIT ?)',
  )

  let depth = 0
  let bytes = 0
  /** Only keys with items. */
  const bytesOf = new Map<string, number>()
  for (const row of count.iterate()) {
    const { key, ...its } = row as { key: string; depth: number; bytes: number }
    depth += its.depth
    grow(key, its.bytes)
  }
  let lease = readLease(readMeta('lease'))

  function inTransaction(work: () => void): void {
    db.exec('BEGIN IMMEDIATE')
    try {
      work()
      db.exec('COMMIT')
    } catch (error) {
      // Some errors (a full disk among them) have ended the transaction already.
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }

  /** `by` is negative for items that go. */
  function grow(key: string, by: number): void {
    bytes += by
    const now = (bytesOf.get(key) ?? 0) + by
    if (now > 0) bytesOf.set(key, now)
    else bytesOf.delete(key)
  }

  function drop(items: readonly SpooledItem[]): void {
    const own = items.filter(({ id, seq }) => id === itemId(seq))
    if (own.length === 0) return
    remove.run(JSON.stringify(own.map((item) => item.seq)))
    depth -= own.length
    for (const { key, size } of own) grow(key, -size)
  }

  /** Items that were spooled before the first lease count as taken in under it. */
  function toItem(row: { seq: number; key: string; at: number | null; lease: number | null; body: string }) {
    const { seq, key, at, body } = row
    const id = itemId(seq)
    const under = row.lease ?? lease.own
    const order = under === null ? '' : `"lease":${under},"seq":${seq},`
    const json = `{"id":"${id}",${at === null ? '' : `"at":${at},`}${order}${body.slice(1)}`
    return { seq, key, id, json, size: body.length }
  }

  return {
    instance: () => name,
    lease: () => lease,
    setLease(next) {
      if (next.own === lease.own && next.known === lease.known) return
      db.prepare(`INSERT OR REPLACE INTO meta VALUES ('lease', ?)`).run(JSON.stringify(next))
      lease = next
    },

    append(entries) {
      inTransaction(() => {
        for (const { key, at, body } of entries) insert.run(key, at, lease.own, body)
      })
      depth += entries.length
      for (const { key, body } of entries) grow(key, body.length)
    },

    peek(limit, maxBytes, exceptKeys, limitOfDevice = limit) {
      const items: SpooledItem[] = []
      const countOf = new Map<string, number>()
      const except = [...exceptKeys]
      let total = 0
      /** Reads on after the last item. Returns false if a device had its share, and what follows is to be read without it. */
      function readOn(): boolean {
        const after = items.at(-1)?.seq ?? 0
        for (const row of select.iterate(after, JSON.stringify(except), limit - items.length)) {
          const item = toItem(row as Parameters<typeof toItem>[0])
          total += item.json.length + 1
          if (total > maxBytes && items.length > 0) return true
          items.push(item)
          const count = (countOf.get(item.key) ?? 0) + 1
          countOf.set(item.key, count)
          if (count < limitOfDevice || item.key === '') continue
          except.push(item.key)
          return false
        }
        return true
      }
      while (!readOn());
      return items
    },

    oldest: (exceptKeys = []) => oldest.get(JSON.stringify(exceptKeys)) as { at: number | null } | undefined,

    drop,

    moveToDeadLetters(item, reason) {
      inTransaction(() => {
        copyToDead.run(reason, item.seq)
        trimDead.run(MAX_DEAD_LETTERS)
        drop([item])
      })
    },

    deadLetters: () =>
      (
        db.prepare('SELECT seq, body, reason FROM dead ORDER BY seq').all() as {
          seq: number
          body: string
          reason: string
        }[]
      ).map(({ seq, body, reason }) => ({ id: itemId(seq), json: body, reason })),

    depth: () => depth,
    bytes: () => bytes,
    bytesOf: (key) => bytesOf.get(key) ?? 0,
    close: () => db.close(),
  }
}

function readLease(text = '{"own":null,"known":null}'): SpoolLease {
  try {
    return storedLease.parse(JSON.parse(text))
  } catch {
    throw new DamagedError('its lease is none')
  }
}
