import { and, desc, eq, gte, isNull, lt } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { auditEntries } from '../db/schema.ts'
import type { AuditEntry, AuditFilter } from './entry.ts'

// Nothing changes an entry, and only the cron deletes old ones (src/retention/README.md).

/** Writes an entry once, however often it is tried. */
export const insertEntry = (db: Db, entry: AuditEntry) =>
  db.insert(auditEntries).values(entry).onConflictDoNothing({ target: auditEntries.id })

/** A tenant's entries, or the installation's own (null), newest first; one row more than `limit`, for `page`. */
export const listEntries = (
  db: Db,
  tenantId: string | null,
  { action, target, keyId, from, to }: AuditFilter,
  limit: number,
  cursor?: string,
): Promise<AuditEntry[]> =>
  db
    .select()
    .from(auditEntries)
    .where(
      and(
        tenantId === null ? isNull(auditEntries.tenantId) : eq(auditEntries.tenantId, tenantId),
        action === undefined ? undefined : eq(auditEntries.action, action),
        target === undefined ? undefined : eq(auditEntries.target, target),
        keyId === undefined ? undefined : eq(auditEntries.keyId, keyId),
        from === undefined ? undefined : gte(auditEntries.at, from),
        to === undefined ? undefined : lt(auditEntries.at, to),
        cursor === undefined ? undefined : lt(auditEntries.id, cursor),
      ),
    )
    .orderBy(desc(auditEntries.id))
    .limit(limit + 1)
