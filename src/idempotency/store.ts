import { and, eq, isNull, lt, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { idempotentAnswers } from '../db/schema.ts'

type Row = typeof idempotentAnswers.$inferSelect

/** A request that has no answer after this time was cut off: a repeat takes its place. */
export const IN_FLIGHT_MS = 60_000
export const KEEP_MS = 24 * 3600_000
/** Each claim deletes up to this many expired rows, so that the table does not grow. */
const SWEEP_ROWS = 10

/** One request under one Idempotency-Key of one API key. */
export interface Claim {
  apiKeyId: string
  idempotencyKey: string
  requestHash: string
  /** When it was claimed, in ms; only the latest claim may settle it. */
  createdAt: number
}

const named = ({ apiKeyId, idempotencyKey }: Claim) =>
  and(eq(idempotentAnswers.apiKeyId, apiKeyId), eq(idempotentAnswers.idempotencyKey, idempotencyKey))
const ours = (claim: Claim) =>
  and(named(claim), eq(idempotentAnswers.createdAt, claim.createdAt), isNull(idempotentAnswers.status))

/** Undefined: the caller does the request. Else the row of the earlier one, which is answered or under way. */
export async function claimRequest(db: Db, claim: Claim): Promise<Row | undefined> {
  const { createdAt: now } = claim
  const expired = lt(idempotentAnswers.createdAt, now - KEEP_MS)
  const [, , claimed, rows] = await db.batch([
    // The lowest rowids are the oldest rows, so that this needs no index by time.
    db
      .delete(idempotentAnswers)
      .where(
        and(sql`rowid IN (SELECT rowid FROM idempotent_answers ORDER BY rowid LIMIT ${SWEEP_ROWS})`, expired),
      ),
    db.delete(idempotentAnswers).where(and(named(claim), expired)),
    db
      .insert(idempotentAnswers)
      .values(claim)
      .onConflictDoUpdate({
        target: [idempotentAnswers.apiKeyId, idempotentAnswers.idempotencyKey],
        set: { createdAt: now },
        setWhere: and(
          isNull(idempotentAnswers.status),
          eq(idempotentAnswers.requestHash, claim.requestHash),
          lt(idempotentAnswers.createdAt, now - IN_FLIGHT_MS),
        ),
      })
      .returning({ createdAt: idempotentAnswers.createdAt }),
    db.select().from(idempotentAnswers).where(named(claim)),
  ])
  return claimed.length > 0 ? undefined : rows[0]
}

export const keepAnswer = (db: Db, claim: Claim, status: number, body: string) =>
  db.update(idempotentAnswers).set({ status, body }).where(ours(claim))

/** Forgets a request whose answer is not to be repeated. */
export const releaseClaim = (db: Db, claim: Claim) => db.delete(idempotentAnswers).where(ours(claim))
