import { inScopeOf } from '../hub/scope.ts'
import type { TopicFamily } from '../protocol/device.ts'
import type { Gathered, ReportedVersion } from './gather.ts'

const LAST_SEEN_EVERY_MS = 3_600_000
const REPORTED_AT_EVERY_MS = 3_600_000

interface SeenRow {
  id: string
  family: TopicFamily | null
  online: number | null
  heard: number
}

/**
 * Writes what a batch says about the devices themselves: versions, topic families, presence, when they were last heard.
 * Only what changes, and "last seen" at most once an hour: never a write per message.
 */
export async function writeDevices(
  db: D1Database,
  gathered: Gathered,
  hub: string | null,
  now: number,
): Promise<void> {
  const statements: D1PreparedStatement[] = []
  if (gathered.reset && hub !== null) statements.push(resetPresence(db, hub))
  const seen = seenRows(gathered, now)
  if (seen.length > 0) statements.push(updateSeen(db, seen, now))
  if (gathered.versions.size > 0) {
    const reports = [...gathered.versions.values()]
    statements.push(upsertVersions(db, reports, now), makeCertain(db, reports))
  }
  if (statements.length > 0) await db.batch(statements)
}

function seenRows(gathered: Gathered, now: number): SeenRow[] {
  const rows: SeenRow[] = []
  for (const { sender, family, online, heard } of gathered.seen.values()) {
    // A reset outdates the presence that the query read.
    const wasOnline = gathered.reset ? null : sender.online
    const newFamily = family !== undefined && family !== sender.topicFamily ? family : null
    const newOnline = online !== undefined && online !== wasOnline ? online : null
    const isDue = heard && (sender.lastSeenAt ?? 0) <= now - LAST_SEEN_EVERY_MS
    if (newFamily === null && newOnline === null && !isDue) continue
    const onlineNumber = newOnline === null ? null : Number(newOnline)
    rows.push({ id: sender.id, family: newFamily, online: onlineNumber, heard: Number(heard) })
  }
  return rows
}

/** Names no tenant: the ids come from the query that applied the bridge's scope. */
const updateSeen = (db: D1Database, rows: SeenRow[], now: number) =>
  db
    .prepare(
      `UPDATE devices SET
         topic_family = coalesce(j.value ->> 'family', topic_family),
         online = coalesce(j.value ->> 'online', online),
         last_seen_at = iif(j.value ->> 'heard', ?2, last_seen_at)
       FROM json_each(?1) j WHERE devices.id = j.value ->> 'id'`,
    )
    .bind(JSON.stringify(rows), now)

const resetPresence = (db: D1Database, hub: string) =>
  db
    .prepare(
      `UPDATE devices SET online = 0 WHERE online = 1 AND product_id IN (
         SELECT p.id FROM products p WHERE ${inScopeOf('?1')})`,
    )
    .bind(hub)

const upsertVersions = (db: D1Database, reports: ReportedVersion[], now: number) =>
  db
    .prepare(
      `INSERT INTO device_modules (device_id, module, version, reported_at, product_id, hub, lease)
       SELECT d.id, j.value ->> 'module', j.value ->> 'version', ?2, d.product_id,
         j.value ->> '$.order.hub', j.value ->> '$.order.lease' FROM json_each(?1) j
       JOIN devices d ON d.id = j.value ->> 'deviceId' WHERE true
       ON CONFLICT (device_id, module) DO UPDATE SET
         rolled_back = iif(version = excluded.version, rolled_back, NULL),
         version = excluded.version, reported_at = excluded.reported_at, product_id = excluded.product_id,
         hub = coalesce(excluded.hub, hub), lease = iif(excluded.hub IS NULL, lease, excluded.lease)
       WHERE NOT (hub IS excluded.hub AND coalesce(lease > excluded.lease, 0))
         AND (version <> excluded.version OR coalesce(product_id, excluded.product_id) <> excluded.product_id
           OR reported_at <= excluded.reported_at - ?3
           OR (hub IS excluded.hub AND lease < excluded.lease))`,
    )
    .bind(JSON.stringify(reports), now, REPORTED_AT_EVERY_MS)

/** A report makes certain what the device runs (src/protocol/README.md#certainty), unless it came late. */
const makeCertain = (db: D1Database, reports: ReportedVersion[]) =>
  db
    .prepare(
      `UPDATE upgrades SET is_unknown = NULL, assumed_version = NULL
       FROM json_each(?1) j JOIN device_modules m
         ON m.device_id = j.value ->> 'deviceId' AND m.module = j.value ->> 'module' AND m.version = j.value ->> 'version'
       WHERE upgrades.device_id = m.device_id AND upgrades.module = m.module
         AND (upgrades.is_unknown OR upgrades.assumed_version <> m.version)
         AND NOT (m.hub IS j.value ->> '$.order.hub' AND coalesce(m.lease > j.value ->> '$.order.lease', 0))`,
    )
    .bind(JSON.stringify(reports))
