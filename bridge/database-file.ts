import { lstatSync, readdirSync, renameSync, rmdirSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { makePrivateDatabase, SQLITE_SUFFIXES } from './private-files.ts'

/** An SQLite file that is begun anew if it turns out to be damaged. */
export interface DatabaseFile<T> {
  /** Does some work with the open file. If the file is damaged, it is replaced and the work is done with the new one. */
  use<R>(work: (database: T) => R): R
  damage: Damage
}

/** What became of damaged files, for health and metrics. */
export interface Damage {
  /** How many were replaced since the start. */
  count(): number
  /** The names of those that are kept beside the file, until a person takes them away. */
  kept(): string[]
}

export interface Damaged {
  /** The name under which the damaged file is kept, in the same folder. */
  movedTo: string
  cause: string
}

/** A file whose content makes no sense, although SQLite can read it. */
export class DamagedError extends Error {}

/** In the name of a damaged file: `spool.db.damaged-1-20260102T030405Z`. */
const MARK = '.damaged-'
/** So many damaged files are kept; the oldest goes first. */
const MAX_KEPT = 3
/** While the file runs. A disk that damages each new file is a case for a person, and for no other new file. */
const REPLACE_EVERY_MS = 60_000
const SQLITE_ERROR = 1
const SQLITE_CORRUPT = 11
const SQLITE_SCHEMA = 17
const SQLITE_CONSTRAINT = 19
const SQLITE_MISMATCH = 20
const SQLITE_NOTADB = 26
const SQLITE_IOERR_SHORT_READ = 522

/** Codes that mean damage whenever they come, and those that mean a foreign schema when the file is opened. */
const DAMAGE = [SQLITE_CORRUPT, SQLITE_NOTADB]
const DAMAGE_AT_OPENING = [...DAMAGE, SQLITE_ERROR, SQLITE_SCHEMA, SQLITE_CONSTRAINT, SQLITE_MISMATCH]

/**
 * Opens `file` with `open`, private to this user. A file that cannot be used is moved aside, never deleted, and begun
 * anew, at once or whenever it is found out. All other errors of `open` are thrown.
 */
export function openDatabaseFile<T extends { close(): void }>(options: {
  file: string
  open: () => T
  /** Called when a file was moved aside, before the new one is open. */
  onDamaged?: ((damaged: Damaged) => void) | undefined
}): DatabaseFile<T> {
  const { file } = options
  let count = 0
  let replacedAt = Number.NEGATIVE_INFINITY
  /** Undefined if the file could not be begun anew, because the disk is full. */
  let current: T | undefined = openUsable()

  function openUsable(): T {
    const unusable = whyUnusable(file)
    if (unusable !== undefined) replace(unusable)
    try {
      return openPrivate(file, options.open)
    } catch (error) {
      if (!isDamage(error, DAMAGE_AT_OPENING)) throw error
      replace(String(error))
      return openPrivate(file, options.open)
    }
  }

  function replace(cause: string): void {
    const movedTo = moveAside(file)
    count++
    options.onDamaged?.({ movedTo, cause })
  }

  return {
    use(work) {
      current ??= openPrivate(file, options.open)
      try {
        return work(current)
      } catch (error) {
        if (!isDamage(error, DAMAGE) || performance.now() < replacedAt + REPLACE_EVERY_MS) throw error
        replacedAt = performance.now()
        closeQuietly(current)
        current = undefined
        replace(String(error))
        current = openPrivate(file, options.open)
        return work(current)
      }
    },
    damage: { count: () => count, kept: () => keptBeside(file) },
  }
}

/** Why the file is not even opened; undefined if it may be, or does not exist. */
function whyUnusable(file: string): string | undefined {
  const found = statSync(file, { throwIfNoEntry: false })
  if (!found) return undefined
  if (!found.isFile()) return 'it is no file'
  return found.size === 0 ? 'it is empty' : undefined
}

function openPrivate<T>(file: string, open: () => T): T {
  const isNew = lstatSync(file, { throwIfNoEntry: false }) === undefined
  makePrivateDatabase(file)
  try {
    return open()
  } catch (error) {
    // Nothing could be written to it. The next try must not take it for a damaged one.
    if (isNew && statSync(file, { throwIfNoEntry: false })?.size === 0) rmSync(file)
    throw error
  }
}

function isDamage(error: unknown, codes: readonly number[]): boolean {
  if (error instanceof DamagedError) return true
  const code = (error as { errcode?: unknown }).errcode
  return typeof code === 'number' && (codes.includes(code & 0xff) || code === SQLITE_IOERR_SHORT_READ)
}

/** Moves the file, with what SQLite wrote beside it, and returns its new name. */
function moveAside(file: string): string {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  // The number tells which is the newest, also after the clock was set back.
  const number = Math.max(0, ...keptBeside(file).map(numberIn)) + 1
  const aside = `${file}${MARK}${number}-${time}`
  for (const suffix of SQLITE_SUFFIXES) {
    if (lstatSync(file + suffix, { throwIfNoEntry: false })) renameSync(file + suffix, aside + suffix)
  }
  for (const name of keptBeside(file).slice(0, -MAX_KEPT)) remove(join(dirname(file), name))
  return basename(aside)
}

const numberIn = (name: string) => Number(/.*\.damaged-(\d+)-/.exec(name)?.[1] ?? 0)

/** The names of the damaged files, the oldest first. */
function keptBeside(file: string): string[] {
  const start = basename(file) + MARK
  return readdirSync(dirname(file))
    .filter(
      (name) => name.startsWith(start) && !SQLITE_SUFFIXES.some((suffix) => suffix && name.endsWith(suffix)),
    )
    .sort((a, b) => numberIn(a) - numberIn(b))
}

/** What is no file, such as a folder with something in it, was not made by the bridge, so it stays. */
function remove(path: string): void {
  try {
    if (lstatSync(path).isDirectory()) rmdirSync(path)
    else for (const suffix of SQLITE_SUFFIXES) rmSync(path + suffix, { force: true })
  } catch {
    // It stays.
  }
}

function closeQuietly(database: { close(): void }): void {
  try {
    database.close()
  } catch {
    // It is damaged.
  }
}
