import { DatabaseSync } from 'node:sqlite'
import { z } from 'zod'
import { credentialKey, type FeedPage } from '../src/protocol/credentials-feed.ts'
import { type Damage, type Damaged, DamagedError, openDatabaseFile } from './database-file.ts'

export interface StoredCredential {
  passwordHash: string | null
  number: string | null
}

/** The credentials that the feed brought, on disk. */
export interface CredentialStore {
  /** The feed is read on from here; undefined: from the start. */
  cursor(): string | undefined
  /** The salt of the keys in the feed's latest page; undefined before the first page. */
  salt(): string | undefined
  /** True once the feed was read to its end, perhaps by an earlier run. */
  isComplete(): boolean
  /** True while the feed is read from the start and its end is not reached. */
  isLoading(): boolean
  find(username: string): StoredCredential | undefined
  /** True if several known devices have this number. */
  isShared(number: string): boolean
  /** Writes one page and its cursor in one transaction. Throws if that fails or the page does not follow the last. */
  apply(page: FeedPage): void
  /** Deletes a slice of the rows that are no longer read; returns false if there were none. */
  sweep(): boolean
  damage: Damage
  close(): void
}

/** One reading of the feed from its start: its rows have this id, and their keys this salt. */
const storedLoad = z.object({ id: z.int(), salt: z.string() })

const storedState = z.object({
  /** The Worker and bridge whose credentials these are. */
  origin: z.string(),
  cursor: z.string().nullable(),
  complete: storedLoad.nullable(),
  loading: storedLoad.nullable(),
  lastId: z.int(),
  /** Ids of loads that are no longer read; `sweep` deletes their rows. */
  stale: z.array(z.int()),
})
type State = z.infer<typeof storedState>

const SWEEP_ROWS = 2_000

/**
 * Opens the file, which only one bridge may do at a time. While the feed is read from the start again, the old rows
 * still count for every username that the new ones do not mention; once the end is reached, only the new rows count.
 * Rows of another `origin` are discarded. A damaged file is moved aside and replaced by an empty one, since the feed
 * brings all of it again.
 */
export function openCredentialStore(
  file: string,
  origin: string,
  onDamaged?: (damaged: Damaged) => void,
): CredentialStore {
  const { use, damage } = openDatabaseFile({ file, open: () => createStore(file, origin), onDamaged })
  return {
    cursor: () => use((store) => store.cursor()),
    salt: () => use((store) => store.salt()),
    isComplete: () => use((store) => store.isComplete()),
    isLoading: () => use((store) => store.isLoading()),
    find: (username) => use((store) => store.find(username)),
    isShared: (number) => use((store) => store.isShared(number)),
    apply: (page) => use((store) => store.apply(page)),
    sweep: () => use((store) => store.sweep()),
    damage,
    close: () => use((store) => store.close()),
  }
}

function createStore(file: string, origin: string): Omit<CredentialStore, 'damage'> {
  const db = new DatabaseSync(file, { timeout: 2_000 })
  try {
    db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS credentials (load INTEGER NOT NULL, key TEXT NOT NULL, gone INTEGER NOT NULL,
        password_hash TEXT, number TEXT, PRIMARY KEY (load, key)) STRICT, WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS credentials_number ON credentials (load, number) WHERE number IS NOT NULL;`)
    return overDatabase(db, origin)
  } catch (error) {
    // Left open, it would keep the lock, and the next try would fail.
    db.close()
    throw error
  }
}

function overDatabase(db: DatabaseSync, origin: string): Omit<CredentialStore, 'damage'> {
  const select = db.prepare(`SELECT gone, password_hash AS passwordHash, number FROM credentials
    WHERE load = ? AND key = ?`)
  // Without the hint the planner scans the whole load.
  const holders = db.prepare(`SELECT 1 FROM credentials INDEXED BY credentials_number
    WHERE load = ? AND number = ? LIMIT 2`)
  const upsert = db.prepare('INSERT OR REPLACE INTO credentials VALUES (?, ?, ?, ?, ?)')
  const remove = db.prepare('DELETE FROM credentials WHERE load = ? AND key = ?')
  const removeSlice = db.prepare(`DELETE FROM credentials WHERE load = ?1 AND key IN (
    SELECT key FROM credentials WHERE load = ?1 ORDER BY key LIMIT ${SWEEP_ROWS})`)
  const writeState = db.prepare(`INSERT OR REPLACE INTO meta VALUES ('state', ?)`)

  const loadsOf = ({ loading, complete }: State) => [loading, complete].filter((load) => load !== null)
  let state = readState()

  function readState(): State {
    const row = db.prepare(`SELECT value FROM meta WHERE name = 'state'`).get() as
      | { value: string }
      | undefined
    const kept = row && parseState(row.value)
    if (kept?.origin === origin) return kept
    const stale = kept ? [...kept.stale, ...loadsOf(kept).map(({ id }) => id)] : []
    const fresh = { origin, cursor: null, complete: null, loading: null, lastId: kept?.lastId ?? 0, stale }
    writeState.run(JSON.stringify(fresh))
    return fresh
  }

  function write(work: () => State): void {
    db.exec('BEGIN IMMEDIATE')
    try {
      const next = work()
      writeState.run(JSON.stringify(next))
      db.exec('COMMIT')
      state = next
    } catch (error) {
      // Some errors (a full disk among them) have ended the transaction already.
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }

  function begin(salt: string): State {
    const id = state.lastId + 1
    const stale = state.loading ? [...state.stale, state.loading.id] : state.stale
    return { ...state, loading: { id, salt }, lastId: id, stale }
  }

  function end(at: State): State {
    const stale = at.complete ? [...at.stale, at.complete.id] : at.stale
    return { ...at, complete: at.loading, loading: null, stale }
  }

  return {
    cursor: () => state.cursor ?? undefined,
    salt: () => (state.loading ?? state.complete)?.salt,
    isComplete: () => state.complete !== null,
    isLoading: () => state.loading !== null,

    find(username) {
      for (const { id, salt } of loadsOf(state)) {
        const row = select.get(id, credentialKey(salt, username)) as
          | (StoredCredential & { gone: number })
          | undefined
        // A newer row hides the older one, also if it says that the username is gone.
        if (row) return row.gone ? undefined : { passwordHash: row.passwordHash, number: row.number }
      }
      return undefined
    },

    isShared: (number) => loadsOf(state).some(({ id }) => holders.all(id, number).length > 1),

    apply(page) {
      write(() => {
        const at = page.reset ? begin(page.salt) : state
        const load = at.loading ?? at.complete
        if (load?.salt !== page.salt) throw new Error('the page does not follow what is known')
        for (const { key, passwordHash, number, state: is } of page.items) {
          if (is === 'enabled') upsert.run(load.id, key, 0, passwordHash, number)
          else if (at.loading) upsert.run(load.id, key, 1, null, null)
          else remove.run(load.id, key)
        }
        return { ...(at.loading && !page.more ? end(at) : at), cursor: page.cursor }
      })
    },

    sweep() {
      const [id, ...rest] = state.stale
      if (id === undefined) return false
      if (removeSlice.run(id).changes === 0) write(() => ({ ...state, stale: rest }))
      return true
    },

    close: () => db.close(),
  }
}

function parseState(text: string): State {
  try {
    return storedState.parse(JSON.parse(text))
  } catch {
    throw new DamagedError('its state is none')
  }
}
