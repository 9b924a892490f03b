import { errorFields, logError } from '../common/log.ts'
import { platformFault } from '../common/platform-faults.ts'
import { retried } from '../common/retries.ts'
import { partsOf } from '../db/parts.ts'
import type { Rejection } from '../db/schema.ts'

/** Messages of one device that were rejected: how many, and the last of them. */
export interface RejectionBatch {
  deviceId: string
  tenantId: string
  total: number
  /** Newest first. */
  items: Rejection[]
}

/** How many of a device's rejected messages are kept (src/protocol/README.md#messages). */
export const MAX_REJECTIONS = 20
const PREFIX = 'rejections/'
/** The last device whose turn it was in this round. */
const CURSOR = 'rejectionsAfter'
/** So many devices have their turn at once: the hub has other things to do in between. */
const PAGE_DEVICES = 200

type Storage = Pick<DurableObjectStorage, 'kv'>

/** Adds a batch to its device's pending messages, without those that are pending already. */
export function keepPending({ kv }: Storage, batch: RejectionBatch): void {
  const before = kv.get<RejectionBatch>(PREFIX + batch.deviceId)
  const fresh = before ? withoutRepeats(batch, before) : batch
  if (fresh.items.length === 0) return
  kv.put(PREFIX + batch.deviceId, before ? mergeRejections(fresh, before) : fresh)
}

function withoutRepeats(batch: RejectionBatch, before: RejectionBatch): RejectionBatch {
  const known = new Set(before.items.map(({ key }) => key))
  const items = batch.items.filter(({ key }) => key === undefined || !known.has(key))
  return { ...batch, items, total: batch.total - (batch.items.length - items.length) }
}

export const readPending = ({ kv }: Storage, deviceId: string) =>
  kv.get<RejectionBatch>(PREFIX + deviceId) ?? null

export const hasPending = ({ kv }: Storage): boolean => [...kv.list({ prefix: PREFIX, limit: 1 })].length > 0

/**
 * Writes the next page of devices to D1, and forgets their messages here. Returns whether all devices had their turn.
 * Throws if D1 is away, or takes nothing: the page waits.
 */
export async function writePage(db: D1Database, storage: Storage): Promise<boolean> {
  const { kv } = storage
  const startAfter = kv.get<string>(CURSOR)
  const page = [
    ...kv.list<RejectionBatch>({ prefix: PREFIX, limit: PAGE_DEVICES, ...(startAfter && { startAfter }) }),
  ]
  for (const part of partsOf(page.map(([, batch]) => batch))) await writePart(db, storage, part)
  const isLast = page.length < PAGE_DEVICES
  if (isLast) kv.delete(CURSOR)
  else kv.put(CURSOR, page.at(-1)![0])
  return isLast
}

/** A device whose messages D1 refuses for good holds up no other. */
async function writePart(db: D1Database, storage: Storage, part: RejectionBatch[]): Promise<void> {
  try {
    await retried(() => writeRejections(db, part))
  } catch (error) {
    if (platformFault(error) !== null) throw error
    if (part.length === 1) return writeCount(db, storage, part[0]!, error)
    const middle = Math.floor(part.length / 2)
    await writePart(db, storage, part.slice(0, middle))
    return writePart(db, storage, part.slice(middle))
  }
  for (const batch of part) forgetPending(storage, batch)
}

/**
 * Something that the device said cannot be written. What can: how many messages there were, and when and why the last one
 * was rejected. Throws if that is refused too: then it is not the messages that are wrong.
 */
async function writeCount(
  db: D1Database,
  storage: Storage,
  batch: RejectionBatch,
  error: unknown,
): Promise<void> {
  const last = { ...batch.items[0]!, topic: '', payload: '' }
  await retried(() => writeRejections(db, [{ ...batch, items: [last] }]))
  logError('hub.rejections_refused', { device: batch.deviceId, total: batch.total, ...errorFields(error) })
  forgetPending(storage, batch)
}

/** Forgets what was written; what came meanwhile stays. */
function forgetPending({ kv }: Storage, written: RejectionBatch): void {
  const present = kv.get<RejectionBatch>(PREFIX + written.deviceId)
  if (!present) return
  const added = present.total - written.total
  if (added === 0) kv.delete(PREFIX + written.deviceId)
  else kv.put(PREFIX + written.deviceId, { ...present, total: added, items: present.items.slice(0, added) })
}

export const mergeRejections = (newer: RejectionBatch, older: RejectionBatch): RejectionBatch => ({
  ...newer,
  total: newer.total + older.total,
  items: [...newer.items, ...older.items].slice(0, MAX_REJECTIONS),
})

/**
 * Adds the batches to the devices' rows. Done again with the same batches it writes nothing: a row has the time of its
 * newest message.
 */
async function writeRejections(db: D1Database, batches: RejectionBatch[]): Promise<void> {
  await db
    .prepare(
      `INSERT INTO rejections (device_id, tenant_id, total, updated_at, items)
       SELECT j.value ->> 'deviceId', j.value ->> 'tenantId', j.value ->> 'total', j.value ->> '$.items[0].at',
         j.value -> 'items'
       FROM json_each(?1) j WHERE EXISTS (SELECT 1 FROM devices WHERE id = j.value ->> 'deviceId')
       ON CONFLICT (device_id) DO UPDATE SET
         total = total + excluded.total, updated_at = excluded.updated_at,
         items = (SELECT json_group_array(json(value)) FROM (
           SELECT value FROM json_each(excluded.items) UNION ALL SELECT value FROM json_each(rejections.items)
           LIMIT ${MAX_REJECTIONS}))
       WHERE updated_at < excluded.updated_at`,
    )
    .bind(JSON.stringify(batches))
    .run()
}
