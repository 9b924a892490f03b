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
/** Devices in one write; the rest follows a minute later. */
const MAX_DEVICES = 500

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

export const readAllPending = ({ kv }: Storage): RejectionBatch[] =>
  [...kv.list<RejectionBatch>({ prefix: PREFIX, limit: MAX_DEVICES })].map(([, batch]) => batch)

export const hasPending = ({ kv }: Storage): boolean => [...kv.list({ prefix: PREFIX, limit: 1 })].length > 0

/** Forgets what was written; what came meanwhile stays. */
export function forgetPending({ kv }: Storage, written: RejectionBatch): void {
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
export async function writeRejections(db: D1Database, batches: RejectionBatch[]): Promise<void> {
  if (batches.length === 0) return
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
