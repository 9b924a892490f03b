/** The platform refused or lost a call. `overloaded`: the same call now would make it worse. `lost`: it may be made again. */
export type PlatformFault = 'lost' | 'overloaded'

/** What workerd marks the errors of objects with. */
interface Marks {
  retryable?: unknown
  overloaded?: unknown
  durableObjectReset?: unknown
}

/** Drizzle and the objects wrap what they caught; deeper than this nothing is looked for. */
const MAX_CAUSES = 8

/** Also what took so much time or memory that it was ended: the same again would end the same way. */
const OVERLOADED =
  /D1 DB storage operation exceeded timeout|exceeded its (?:memory|CPU time) limit|\bis overloaded\b|queued for too long|too many requests (?:queued|for the same object)|too much (?:load|data queued)|too many concurrent (?:storage operations|requests)/i

/** What D1, the objects and workerd itself say; their errors have no codes. */
const LOST =
  /network connection (?:was )?lost|caused object to be reset|\b(?:was|been) reset\b|\breset because\b|code was updated|transient issue|client disconnected|connection closed|no longer (?:active|accessible)|moved to a different machine|could not be opened for now|exceeded timeout|^(?:D1_ERROR: )?internal error\b/i

/** An error of D1 that names no fault of SQL: its storage or the way to it failed. */
const D1_STORAGE =
  /^D1_[A-Z_]*ERROR: (?!.*\bSQLITE_).*(?:network|connection|timeout|timed out|unavailable|try again|internal error|failed to parse body)/is
/** SQLite itself met a storage that failed or was busy for now. */
const SQLITE_STORAGE = /\bSQLITE_(?:BUSY|LOCKED|IOERR|NOMEM|INTERRUPT|PROTOCOL)\b/

/** Drizzle's message for whatever failed in a query. */
const FAILED_QUERY = 'Failed query'

/** R2 puts its code at the end. 10001, 10043, 10054: its own failure; 10058: too many at once; 0: it does not know. */
const R2_LOST = /\((?:10001|10043|10054)\)\s*$|unspecified error \(0\)/i
const R2_OVERLOADED = /\(10058\)\s*$/

/**
 * What the platform says of an error that passes by itself; null for any other, which is a bug or a client's fault. Looks
 * into causes too. The texts are those of the platform's documentation: D1 and R2 have nothing else to tell them by.
 */
export function platformFault(error: unknown): PlatformFault | null {
  let fault: PlatformFault | null = null
  let part = error
  for (let depth = 0; depth < MAX_CAUSES && part instanceof Error; depth++) {
    const found = faultOf(part)
    if (found === 'overloaded') return found
    fault ??= found
    part = part.cause
  }
  return fault
}

/** What an object throws if it cannot open its storage: nothing was done, and the next call tries it again. */
export const notOpened = (cause: unknown) => new Error('the object could not be opened for now', { cause })

function faultOf(error: Error & Marks): PlatformFault | null {
  const { message } = error
  // It quotes the statement and its parameters, which may say anything; its cause is what counts.
  if (message.startsWith(FAILED_QUERY)) return null
  if (message.includes('SQLITE_')) return SQLITE_STORAGE.test(message) ? 'lost' : null
  if (error.overloaded === true || OVERLOADED.test(message) || R2_OVERLOADED.test(message))
    return 'overloaded'
  if (error.retryable === true || error.durableObjectReset === true) return 'lost'
  return [LOST, D1_STORAGE, R2_LOST].some((text) => text.test(message)) ? 'lost' : null
}
