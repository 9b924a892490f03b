import { setTimeout as sleep } from 'node:timers/promises'
import { type Log, limited } from './log.ts'

const RETRY_MS = 5_000
const SQLITE_IOERR = 10
const SQLITE_FULL = 13
/** The same, if a file cannot even be made. */
const DISK_ERRORS = ['ENOSPC', 'EDQUOT', 'EIO']

/**
 * Opens an SQLite file with `open`. While the disk is full or unreadable it logs that and tries again: if the process
 * ended instead, it would only be restarted over and over.
 */
export async function awaitDisk<T>(open: () => T, log: Log): Promise<T> {
  const logDisk = limited((times) =>
    log.error({ code: 'bridge.disk_failed', times }, 'the disk is full or cannot be read: waiting for it'),
  )
  for (;;) {
    try {
      return open()
    } catch (error) {
      const { errcode = 0, code = '' } = error as { errcode?: number; code?: string }
      if (![SQLITE_IOERR, SQLITE_FULL].includes(errcode & 0xff) && !DISK_ERRORS.includes(code)) throw error
      logDisk()
      await sleep(RETRY_MS)
    }
  }
}
