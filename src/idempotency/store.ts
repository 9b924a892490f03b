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
interface Request {
  apiKeyId: string
  idempotencyKey: string
  requestHash: string
}

export interface Claim extends Request {
  /** When the request came first (ms), however often a repeat took over from one that was cut off or failed. */
  createdAt: number
  /** When this claim was made (ms); only the latest claim may settle it. */
  claimedAt: number
}

const named = ({ apiKeyId, idempotencyKey }: Request) =>
  and(eq(idempotentAnswers.apiKeyId, apiKeyId), eq(idempotentAnswers.idempotencyKey, idempotencyKey))
const ours = (claim: Claim) =>
  and(named(claim), eq(idempotentAnswers.claimedAt, claim.claimedAt), isNull(idempotentAnswers.status))

/** `earlier` undefined: the caller does the request. Else it is the earlier one, which is answered or under way. */
export async function claimRequest(
  db: Db,
  request: Request,
  now: number,
): Promise<{ claim: Claim; earlier: Row | undefined }> {
  const expired = lt(idempotentAnswers.createdAt, now - KEEP_MS)
  const { requestHash, createdAt } = idempotentAnswers
  const claimedAt = sql`coalesce(${idempotentAnswers.claimedAt}, ${createdAt})`
  const isSame = eq(requestHash, request.requestHash)
  const [, , claimed, rows] = await db.batch([
    // The lowest rowids are the oldest rows, so that this needs no index by time.
    db
      .delete(idempotentAnswers)
      .where(
        and(sql`rowid IN (SELECT rowid FROM idempotent_answers ORDER BY rowid LIMIT ${SWEEP_ROWS})`, expired),
      ),
    db.delete(idempotentAnswers).where(and(named(request), expired)),
    db
      .insert(idempotentAnswers)
      .values({ ...request, createdAt: now, claimedAt: now })
      .onConflictDoUpdate({
        target: [idempotentAnswers.apiKeyId, idempotentAnswers.idempotencyKey],
        set: {
          claimedAt: now,
          requestHash: request.requestHash,
          createdAt: sql`iif(${isSame}, ${createdAt}, ${now})`,
        },
        setWhere: and(
          isNull(idempotentAnswers.status),
          // Once it failed, another request may have the key.
          sql`(${claimedAt} = 0 OR (${isSame} AND ${claimedAt} < ${now - IN_FLIGHT_MS}))`,
        ),
      })
      .returning({ createdAt }),
    db.select().from(idempotentAnswers).where(named(request)),
  ])
  const claim = { ...request, createdAt: claimed[0]?.createdAt ?? now, claimedAt: now }
  return { claim, earlier: claimed.length > 0 ? undefined : rows[0] }
}

export const keepAnswer = (db: Db, claim: Claim, status: number, body: string) =>
  db.update(idempotentAnswers).set({ status, body }).where(ours(claim))

/** Keeps no answer: a repeat is done at once. The row stays, so that the repeat makes nothing a second time. */
export const releaseClaim = (db: Db, claim: Claim) =>
  db.update(idempotentAnswers).set({ claimedAt: 0 }).where(ours(claim))
