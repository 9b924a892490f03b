import type { Context } from 'hono'
import { newId } from '../common/ids.ts'
import { errorFields, logError } from '../common/log.ts'
import { openDb } from '../db/client.ts'
import type { AppEnv } from '../http/principal.ts'
import { type Detail, toDetail } from './detail.ts'
import type { AuditEntry } from './entry.ts'
import { insertEntry } from './store.ts'

export interface AuditEvent {
  /** A stable dotted name, such as `device.reveal_token`. */
  action: string
  /** The id of the thing concerned; null for a list of things. */
  target: string | null
  /** Written shortened and without its secrets. */
  detail?: Detail
}

const MAX_ADDRESS_LENGTH = 64
const TRIES = 3
const RETRY_AFTER_MS = 100

/**
 * Writes one entry in the name of the calling key, before the route does what is recorded, such as revealing a secret.
 * Throws if it cannot be written, so that nothing is revealed. A change needs no call of this: the middleware records
 * every change that returned 2xx.
 */
export async function audit<E extends AppEnv>(c: Context<E>, event: AuditEvent): Promise<void> {
  await writeEntry(c, toEntry(c, event))
}

/**
 * Records a change that was made. If the entry cannot be written in three tries, it goes into the Worker's own log, and
 * this does not throw: an error would deny a change that was made, hide a new key or token that can be shown only once,
 * and make an emergency stop look as if it had failed.
 */
export async function auditDone(c: Context<AppEnv>, event: AuditEvent): Promise<void> {
  let entry: AuditEntry | undefined
  try {
    entry = toEntry(c, event)
    await writeEntry(c, entry)
  } catch (error) {
    const { action, target } = event
    logError('audit.not_written', { action, target, entry, ...errorFields(error) })
  }
}

/** Entries that strangers may cause, in each isolate and minute; the next entry tells how many more there were. */
const MAX_OF_STRANGERS = 10
const MINUTE_MS = 60_000
const strangers = { minute: 0, written: 0, leftOut: 0 }

/**
 * Records what somebody tried who could not show who they are; `who` is null if it is not even known who they wanted to
 * be: the installation's log has that. Does not throw, and writes only so many entries that nobody can fill the log.
 */
export async function auditStranger<E extends AppEnv>(
  c: Context<E>,
  who: Who | null,
  event: AuditEvent,
): Promise<void> {
  const minute = Math.floor(Date.now() / MINUTE_MS)
  if (minute !== strangers.minute) Object.assign(strangers, { minute, written: 0 })
  if (strangers.written >= MAX_OF_STRANGERS) {
    strangers.leftOut += 1
    return
  }
  strangers.written += 1
  const { leftOut } = strangers
  strangers.leftOut = 0
  const detail = { ...event.detail, ...(leftOut > 0 && { leftOutBefore: leftOut }) }
  try {
    await writeEntry(c, toEntry(c, { ...event, detail }, who ?? NOBODY))
  } catch (error) {
    logError('audit.not_written', { action: event.action, ...errorFields(error) })
  }
}

type Who = Pick<AuditEntry, 'keyId' | 'keyName' | 'role' | 'tenantId'>
const NOBODY: Who = { keyId: 'unknown', keyName: 'unknown', role: 'unknown', tenantId: null }

function toEntry<E extends AppEnv>(
  c: Context<E>,
  { action, target, detail = {} }: AuditEvent,
  { keyId, keyName, role, tenantId }: Who = c.var.principal,
): AuditEntry {
  const address = c.req.header('cf-connecting-ip')?.slice(0, MAX_ADDRESS_LENGTH) ?? null
  return {
    id: newId('aud'),
    at: Date.now(),
    tenantId,
    keyId,
    keyName,
    role,
    action,
    target,
    address,
    detail: toDetail(detail),
  }
}

/** Tries a few times: the database is sometimes away for a moment. */
async function writeEntry<E extends AppEnv>(c: Context<E>, entry: AuditEntry): Promise<void> {
  const db = openDb(c.env.DB)
  for (let tried = 1; ; tried++) {
    try {
      await insertEntry(db, entry)
      return
    } catch (error) {
      if (tried === TRIES) throw error
      await scheduler.wait(RETRY_AFTER_MS * tried)
    }
  }
}
