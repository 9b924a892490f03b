import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

const OWNER_ONLY = 0o600
const OWNER_ONLY_FOLDER = 0o700
const STICKY = 0o1000
/** What SQLite writes beside a database. It gives these files the mode of the database, but only new ones. */
export const SQLITE_SUFFIXES = ['', '-wal', '-shm', '-journal']

/**
 * Makes the folder, if it is missing, and closes it to all but its owner, whoever made it. Folders that others use too
 * stay as they are: one like /tmp, the one that the process was started in, and one of another user.
 */
export function makePrivateFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: OWNER_ONLY_FOLDER })
  const { mode, ino, dev } = statSync(folder)
  const here = statSync('.')
  if ((mode & STICKY) === 0 && !(ino === here.ino && dev === here.dev)) close(folder, OWNER_ONLY_FOLDER)
}

/** Makes the folder private, with everything that is in it already. */
export function closeToOthers(folder: string): void {
  makePrivateFolder(folder)
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isDirectory()) close(path, OWNER_ONLY_FOLDER)
    else if (entry.isFile()) makePrivateFile(path)
  }
}

/** Before SQLite opens `file`: makes it and its folder private, and with them all that SQLite will write beside it. */
export function makePrivateDatabase(file: string): void {
  makePrivateFolder(dirname(file))
  closeSync(openSync(file, 'a', OWNER_ONLY))
  for (const suffix of SQLITE_SUFFIXES) makePrivateFile(file + suffix)
}

/** Writes a small file that only its owner can read. A crash leaves the old content or the new one. */
export function writePrivateFile(file: string, text: string): void {
  const isThere = statSync(file, { throwIfNoEntry: false }) !== undefined
  // A symbolic link stays one.
  const place = isThere ? realpathSync(file) : file
  const making = `${place}.${process.pid}`
  // Empty, and closed to others, before the content comes.
  closeSync(openSync(making, 'w', OWNER_ONLY))
  makePrivateFile(making)
  writeFileSync(making, text, { flush: true })
  renameSync(making, place)
}

/** Closes a file to all but its owner; does nothing if there is none. */
export const makePrivateFile = (file: string): void => close(file, OWNER_ONLY)

/** Only the owner of a file can change its mode. */
function close(path: string, mode: number): void {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found && found.uid === process.getuid?.() && (found.mode & 0o777) !== mode) chmodSync(path, mode)
}
