import type { Context } from 'hono'
import { newId } from '../common/ids.ts'
import { openDb } from '../db/client.ts'
import type { AppEnv } from '../http/principal.ts'
import { type Detail, toDetail } from './detail.ts'
import type { AuditEntry } from './entry.ts'
import { insertEntry } from './store.ts'

export interface AuditEvent {
  /** A dotted name that stays as it is, such as `device.reveal_token`. */
  action: string
  /** The id of what it was done to; null for a list of things. */
  target: string | null
  /** Shortened, and its secrets left out, before it is written. */
  detail?: Detail
}

const MAX_ADDRESS_LENGTH = 64
const TRIES = 3
const RETRY_AFTER_MS = 100

/**
 * Writes one entry into the audit log, in the name of the key that asks, before the route does what is recorded, such
 * as revealing a secret. Throws where it cannot be written: then nothing is revealed. A change that answers 2xx needs
 * none: the middleware records it.
 */
export async function audit<E extends AppEnv>(c: Context<E>, event: AuditEvent): Promise<void> {
  await writeEntry(c, toEntry(c, event))
}

/**
 * Records a change that was made. Where its entry cannot be written, also not by a second and third try, this does not
 * throw and the entry goes into the Worker's own log: an error would deny a change that was made, hide a new key or
 * token that can be shown only once, and make an emergency stop look as if it had failed.
 */
export async function auditDone(c: Context<AppEnv>, event: AuditEvent): Promise<void> {
  let entry: AuditEntry | undefined
  try {
    entry = toEntry(c, event)
    await writeEntry(c, entry)
  } catch (error) {
    // A failed query's own message quotes its parameters; its cause says what went wrong.
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
    const { action, target } = event
    console.error(JSON.stringify({ code: 'audit.not_written', action, target, error: `${cause}`, entry }))
  }
}

function toEntry<E extends AppEnv>(c: Context<E>, { action, target, detail = {} }: AuditEvent): AuditEntry {
  const { keyId, keyName, role, tenantId } = c.var.principal
  const address = c.req.header('cf-connecting-ip')?.slice(0, MAX_ADDRESS_LENGTH) ?? null
  return {
    id: newId('aud'),
    at: Date.now(),
    ...{ tenantId, keyId, keyName, role, action, target, address },
    detail: toDetail(detail),
  }
}

/** Tries a few times: the database is sometimes away for a moment, and what is to be recorded has happened. */
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
