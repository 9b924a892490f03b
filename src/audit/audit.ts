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

function toEntry<E extends AppEnv>(c: Context<E>, { action, target, detail = {} }: AuditEvent): AuditEntry {
  const { keyId, keyName, role, tenantId } = c.var.principal
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
