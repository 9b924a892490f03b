import { hubOf, inScopeOf, numberIsTopic } from '../devices/scope.ts'
import type { DeviceAddress, TopicFamily } from './protocol.ts'

/** A device's slot, as far as it says which task a message concerns. */
export interface HeldSlot {
  module: string
  taskId: string
  rank: string
  active: boolean
  waitingTaskId: string | null
}

/** A task of the device's product that is under way. */
export interface RunningTask {
  taskId: string
  module: string
  rank: string
}

/** Who sent a message, and all that it takes to find the tasks it concerns. */
export interface Sender extends DeviceAddress {
  id: string
  tenantId: string
  enabled: boolean
  passwordHash: string | null
  online: boolean | null
  lastSeenAt: number | null
  hub: string
  slots: HeldSlot[]
  tasks: RunningTask[]
}

interface SenderRecord {
  id: string
  tenant_id: string
  number: string
  access_token: string
  password_hash: string | null
  enabled: number
  topic_family: TopicFamily | null
  number_is_topic: number
  online: number | null
  last_seen_at: number | null
  hub: string
  slots: string
  tasks: string
}

const SENDERS_SQL = `
  SELECT d.id, d.tenant_id, d.number, d.access_token, d.password_hash, d.enabled, d.topic_family, d.online,
    d.last_seen_at, d.topic_family = 'devices' AND ${numberIsTopic()} AS number_is_topic, ${hubOf()} AS hub,
    (SELECT json_group_array(json_object('module', u.module, 'taskId', u.task_id, 'rank', u.rank,
        'active', u.active, 'waitingTaskId', u.waiting_task_id))
      FROM upgrades u WHERE u.device_id = d.id) AS slots,
    (SELECT json_group_array(json_object('taskId', t.id, 'module', t.module, 'rank', t.rank))
      FROM tasks t WHERE t.product_id = d.product_id
        AND (t.status IN ('running', 'paused') OR (t.status = 'scheduled' AND t.start_at <= ?2))) AS tasks
  FROM json_each(?1) j JOIN devices d ON d.access_token = j.value JOIN products p ON p.id = d.product_id
  WHERE ?3 IS NULL OR ${inScopeOf('?3')}`

/** The bridge whose batch it is; null for the device's own HTTPS request. */
export interface BatchOrigin {
  hub: string
  /** Null: the bridge serves every tenant. */
  tenantId: string | null
}

/**
 * The one query of a batch: which devices these usernames are, seen from the bridge (a device outside its scope is
 * an unknown device), and which of these tasks there are for it.
 */
export async function identify(
  db: D1Database,
  origin: BatchOrigin | null,
  usernames: string[],
  taskIds: string[],
  now: number,
): Promise<{ senders: Map<string, Sender>; taskIds: Set<string> }> {
  const [senders, tasks] = await db.batch([
    db.prepare(SENDERS_SQL).bind(JSON.stringify(usernames), now, origin?.hub ?? null),
    db
      .prepare(
        `SELECT id FROM tasks WHERE id IN (SELECT value FROM json_each(?1)) AND (?2 IS NULL OR tenant_id = ?2)`,
      )
      .bind(JSON.stringify(taskIds), origin?.tenantId ?? null),
  ])
  return {
    senders: new Map((senders!.results as SenderRecord[]).map((row) => [row.access_token, toSender(row)])),
    taskIds: new Set((tasks!.results as { id: string }[]).map(({ id }) => id)),
  }
}

function toSender(row: SenderRecord): Sender {
  const slots = JSON.parse(row.slots) as (Omit<HeldSlot, 'active'> & { active: number })[]
  return {
    id: row.id,
    tenantId: row.tenant_id,
    number: row.number,
    numberIsTopic: row.number_is_topic === 1,
    accessToken: row.access_token,
    passwordHash: row.password_hash,
    enabled: row.enabled === 1,
    topicFamily: row.topic_family,
    online: row.online === null ? null : row.online === 1,
    lastSeenAt: row.last_seen_at,
    hub: row.hub,
    slots: slots.map((slot) => ({ ...slot, active: slot.active === 1 })),
    tasks: JSON.parse(row.tasks),
  }
}
