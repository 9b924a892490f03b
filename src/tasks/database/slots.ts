import { hubOf, numberIsTopic } from '../../hub/scope.ts'
import type { DeviceAddress, TopicFamily } from '../../protocol/device.ts'
import type { Reason } from '../../reasons/reason.ts'
import { signingPolicyOf } from '../../signing/store.ts'
import type { DueDevice, Slot } from '../rules/slot.ts'
import type { TaskSpec } from '../rules/task.ts'
import type { UpgradeStatus, versionAfter } from '../rules/upgrade.ts'

// A page of devices goes to D1 as one JSON parameter, since D1 binds at most 100. Every change is one guarded
// statement: a repeat, or a change that comes too late, writes nothing.

/** The product as it is now. */
export interface DueProduct {
  frozen: boolean
  defaultModuleParam: string | null
  downloads: 'r2' | 'worker' | null
  notifyCancel: boolean
  hub: string
  /** Its signing policy, as `parseSigningPolicy` reads it. */
  signing: string
}

export interface AddressedDevice extends DueDevice {
  /** The id of the last notice to it, for any module; 0 before the first. */
  lastNoticeId: number
  /** Null if its broker cannot tell. */
  online: boolean | null
  /** Null if the device was deleted. */
  address: DeviceAddress | null
}

interface DueRecord {
  id: string
  product_id: string | null
  enabled: number | null
  online: number | null
  number: string
  access_token: string
  topic_family: TopicFamily | null
  number_is_topic: number
  device_notice_id: number | null
  version: string | null
  is_certain: number
  is_reported: number
  task_id: string | null
  rank: string
  active: number
  last_notice_id: number
  succeeded_task_id: string | null
  succeeded_rank: string | null
  doubt_version: string | null
  waiting_task_id: string | null
  waiting_rank: string | null
  waiting_version: string | null
}

/** Does the device run `m.version` for certain (src/protocol/README.md#certainty)? `d`, `m`, `u`: its rows. */
export const CERTAIN = `(m.version IS NOT NULL AND coalesce(m.product_id, d.product_id) IS d.product_id
    AND u.is_unknown IS NULL AND coalesce(u.assumed_version, m.version) = m.version)`

/** The same, or a notice that went out before the report may still be acted on. */
const REPORTED = `(m.version IS NOT NULL AND coalesce(m.product_id, d.product_id) IS d.product_id
    AND u.is_unknown IS NOT 1 AND coalesce(u.assumed_version, m.version) = m.version)`

const DUE_DEVICES_SQL = `
  SELECT j.value AS id, d.product_id, d.enabled, d.online, d.number, d.access_token, d.topic_family,
    d.topic_family = 'devices' AND ${numberIsTopic()} AS number_is_topic,
    (SELECT max(last_notice_id) FROM upgrades WHERE device_id = j.value) AS device_notice_id,
    m.version, ${CERTAIN} AS is_certain, ${REPORTED} AS is_reported, u.task_id, u.rank, u.active, u.last_notice_id, u.succeeded_task_id, u.succeeded_rank,
    u.doubt_version, u.waiting_task_id, u.waiting_rank,
    (SELECT target_version FROM tasks WHERE id = u.waiting_task_id) AS waiting_version
  FROM json_each(?1) j
  LEFT JOIN devices d ON d.id = j.value AND d.tenant_id = ?2
  LEFT JOIN products p ON p.id = d.product_id
  LEFT JOIN device_modules m ON m.device_id = j.value AND m.module = ?3
  LEFT JOIN upgrades u ON u.device_id = j.value AND u.module = ?3`

/** Devices and their slots as they are now, and their product; null if the product was deleted. */
export async function readDueDevices(
  db: D1Database,
  spec: TaskSpec,
  rank: string,
  deviceIds: string[],
): Promise<{ product: DueProduct | null; devices: AddressedDevice[]; newerTargets: Map<string, string> }> {
  const [products, devices, newer] = await db.batch([
    db
      .prepare(
        `SELECT p.frozen_at, p.default_module_param, p.downloads, p.notify_cancel, ${hubOf()} AS hub,
           ${signingPolicyOf('p.id')} AS signing
         FROM products p WHERE p.id = ?1 AND p.tenant_id = ?2`,
      )
      .bind(spec.productId, spec.tenantId),
    db.prepare(DUE_DEVICES_SQL).bind(JSON.stringify(deviceIds), spec.tenantId, spec.module),
    db
      .prepare(
        `SELECT target_version AS version, id FROM tasks
         WHERE product_id = ?1 AND module = ?2 AND rank > ?3 AND target_version <> ?4 ORDER BY rank`,
      )
      .bind(spec.productId, spec.module, rank, spec.targetVersion),
  ])
  const [record] = products!.results as {
    frozen_at: number | null
    default_module_param: string | null
    downloads: 'r2' | 'worker' | null
    notify_cancel: number
    hub: string
    signing: string
  }[]
  const product: DueProduct | null = record
    ? {
        frozen: record.frozen_at !== null,
        defaultModuleParam: record.default_module_param,
        downloads: record.downloads,
        notifyCancel: record.notify_cancel === 1,
        hub: record.hub,
        signing: record.signing,
      }
    : null
  const frozen = product?.frozen ?? true
  return {
    product,
    devices: (devices!.results as DueRecord[]).map((row) => toDueDevice(row, frozen)),
    newerTargets: new Map(
      (newer!.results as { version: string; id: string }[]).map((task) => [task.version, task.id]),
    ),
  }
}

function toDueDevice(row: DueRecord, frozen: boolean): AddressedDevice {
  const slot: Slot | null = row.task_id === null ? null : toSlot(row.task_id, row)
  return {
    id: row.id,
    productId: row.product_id,
    enabled: row.enabled === 1,
    frozen,
    version: row.version,
    isCertain: row.is_certain === 1,
    isReported: row.is_reported === 1,
    chosenPackageId: null,
    lastNoticeId: row.device_notice_id ?? 0,
    online: row.online === null ? null : row.online === 1,
    slot,
    address:
      row.product_id === null
        ? null
        : {
            accessToken: row.access_token,
            number: row.number,
            numberIsTopic: row.number_is_topic === 1,
            topicFamily: row.topic_family,
          },
  }
}

const toSlot = (taskId: string, row: DueRecord): Slot => ({
  taskId,
  rank: row.rank,
  active: row.active === 1,
  lastNoticeId: row.last_notice_id,
  succeededTaskId: row.succeeded_task_id,
  succeededRank: row.succeeded_rank,
  doubtVersion: row.doubt_version,
  waitingTaskId: row.waiting_task_id,
  waitingRank: row.waiting_rank,
  waitingVersion: row.waiting_version,
})

/** A notice that is about to go out, and what was true of its device when the package was chosen. */
export interface SlotClaim {
  deviceId: string
  noticeId: number
  version: string | null
  isCertain: boolean
}

/**
 * Takes the slots for the task, or keeps them, with the id of the notice that is about to go out. Returns the devices
 * that it got: only free slots, if no newer task succeeded or waits there, and no notice of any module had a greater id. This is
 * the last look at the device: it is still enabled and of the product, which is not frozen, and runs what was read; the
 * product's keys and what it requires of signatures are still `signing`. The
 * joins keep their order, and the unary plus disables the indexes on tenant and product: each device is looked up by its id.
 */
export async function claimSlots(
  db: D1Database,
  spec: TaskSpec,
  rank: string,
  signing: string,
  notices: SlotClaim[],
): Promise<Set<string>> {
  const { results } = await db
    .prepare(
      `INSERT INTO upgrades (device_id, module, tenant_id, task_id, rank, active, target_version, last_notice_id)
       SELECT d.id, ?2, ?3, ?4, ?5, 1, ?6, j.value ->> 'noticeId' FROM json_each(?1) j
         CROSS JOIN devices d ON d.id = j.value ->> 'deviceId'
           AND +d.tenant_id = ?3 AND +d.product_id = ?7 AND d.enabled = 1
         CROSS JOIN products p ON p.id = d.product_id AND p.frozen_at IS NULL
         LEFT JOIN device_modules m ON m.device_id = d.id AND m.module = ?2
         LEFT JOIN upgrades u ON u.device_id = d.id AND u.module = ?2
       WHERE m.version IS j.value ->> 'version' AND ${CERTAIN} = (j.value ->> 'isCertain')
         AND ${signingPolicyOf('?7')} = ?8
         AND NOT EXISTS (SELECT 1 FROM upgrades other WHERE other.device_id = d.id AND other.module <> ?2
           AND other.last_notice_id >= j.value ->> 'noticeId')
       ON CONFLICT (device_id, module) DO UPDATE SET
         task_id = excluded.task_id, rank = excluded.rank, active = 1, target_version = excluded.target_version,
         last_notice_id = excluded.last_notice_id,
         waiting_task_id = nullif(waiting_task_id, excluded.task_id),
         waiting_rank = iif(waiting_task_id = excluded.task_id, NULL, waiting_rank)
       WHERE last_notice_id <= excluded.last_notice_id AND CASE
         WHEN active = 1 THEN task_id = excluded.task_id
         ELSE coalesce(succeeded_rank, '') <= excluded.rank
           AND coalesce(waiting_rank, '') <= excluded.rank
           AND (last_notice_id < excluded.last_notice_id OR task_id = excluded.task_id)
       END
       RETURNING device_id`,
    )
    .bind(
      JSON.stringify(notices),
      spec.module,
      spec.tenantId,
      spec.id,
      rank,
      spec.targetVersion,
      spec.productId,
      signing,
    )
    .all<{ device_id: string }>()
  return new Set(results.map((row) => row.device_id))
}

/**
 * Writes the task down as the one that waits for these slots, unless a newer one does. Returns the older tasks that
 * waited until now, and so are replaced.
 */
export async function waitForSlots(
  db: D1Database,
  spec: TaskSpec,
  rank: string,
  deviceIds: string[],
): Promise<{ deviceId: string; taskId: string }[]> {
  const bindings = [JSON.stringify(deviceIds), spec.module, spec.id, rank] as const
  const guard = `module = ?2 AND device_id IN (SELECT value FROM json_each(?1)) AND coalesce(waiting_rank, '') < ?4`
  const [displaced] = await db.batch([
    db
      .prepare(
        `SELECT device_id AS deviceId, waiting_task_id AS taskId FROM upgrades
         WHERE ${guard} AND waiting_task_id IS NOT NULL AND ?3 <> ''`,
      )
      .bind(...bindings),
    db
      .prepare(`UPDATE upgrades SET waiting_task_id = ?3, waiting_rank = ?4 WHERE ${guard}`)
      .bind(...bindings),
  ])
  return displaced!.results as { deviceId: string; taskId: string }[]
}

/** How one device's upgrade ended, as it goes to D1. */
export interface Ended {
  deviceId: string
  status: Extract<UpgradeStatus, 'success' | 'failure' | 'cancelled'>
  fromVersion: string | null
  description: string | null
  because: Reason | null
  rolledBack: boolean
  attempt: number
  finishedAt: number
  /** A notice went out, and what the device did with it is unknown (src/protocol/README.md#certainty). */
  isDoubtful: boolean
  /** What the device runs now (`versionAfter`). */
  after: ReturnType<typeof versionAfter>
}

const NEWLY_SUCCEEDED = `j.value ->> 'status' = 'success' AND coalesce(succeeded_rank, '') < ?5`

/**
 * Frees the slots and writes the outcomes; harmless when repeated. A Success is kept in the slot's row even if the task
 * never held it, so that no older task downgrades the device. Returns the tasks that wait for the freed slots.
 */
export async function settleUpgrades(
  db: D1Database,
  spec: TaskSpec,
  rank: string,
  ended: Ended[],
): Promise<{ deviceId: string; taskId: string }[]> {
  const page = JSON.stringify(ended)
  const { module, targetVersion: version } = spec
  const [freed] = await db.batch([
    db
      .prepare(
        `UPDATE upgrades SET active = 0,
           succeeded_task_id = iif(${NEWLY_SUCCEEDED}, ?3, succeeded_task_id),
           succeeded_rank = iif(${NEWLY_SUCCEEDED}, ?5, succeeded_rank),
           doubt_version = CASE
             WHEN j.value ->> 'status' = 'success' THEN NULL
             WHEN NOT (j.value ->> 'isDoubtful') THEN doubt_version
             WHEN coalesce(doubt_version, ?4) = ?4 THEN ?4 ELSE '*' END,
           is_unknown = CASE j.value ->> 'after' WHEN 'unknown' THEN 1 WHEN 'doubtful' THEN 2 WHEN 'same' THEN is_unknown WHEN 'assumed' THEN is_unknown END,
           assumed_version = CASE j.value ->> 'after' WHEN 'assumed' THEN ?4 WHEN 'same' THEN assumed_version END
         FROM json_each(?1) j
         WHERE upgrades.device_id = j.value ->> 'deviceId' AND module = ?2 AND task_id = ?3 AND (
           active = 1 OR (j.value ->> 'status' = 'success' AND doubt_version IS NOT NULL)
           OR (j.value ->> 'after' IN ('reported', 'confirmed') AND is_unknown)
           OR (j.value ->> 'after' = 'unknown' AND is_unknown IS NOT 1)
           OR (j.value ->> 'after' = 'doubtful' AND is_unknown = 1)
           OR (j.value ->> 'after' = 'reported' AND assumed_version IS NOT NULL))
         RETURNING device_id AS deviceId, waiting_task_id AS taskId`,
      )
      .bind(page, module, spec.id, version, rank),
    // A Success of a task that does not hold the slot; it leaves alone what the statement above has written.
    db
      .prepare(
        `INSERT INTO upgrades (device_id, module, tenant_id, task_id, rank, active, target_version, last_notice_id,
           succeeded_task_id, succeeded_rank)
         SELECT j.value ->> 'deviceId', ?2, ?3, ?4, ?5, 0, ?6, 0, ?4, ?5 FROM json_each(?1) j
         WHERE j.value ->> 'status' = 'success'
         ON CONFLICT (device_id, module) DO UPDATE SET
           succeeded_task_id = excluded.succeeded_task_id, succeeded_rank = excluded.succeeded_rank,
           doubt_version = iif(active, doubt_version, NULL)
         WHERE coalesce(succeeded_rank, '') < excluded.succeeded_rank`,
      )
      .bind(page, module, spec.tenantId, spec.id, rank, version),
    db
      .prepare(
        `UPDATE upgrades SET waiting_task_id = NULL, waiting_rank = NULL
         WHERE module = ?2 AND waiting_task_id = ?3
           AND device_id IN (SELECT value ->> 'deviceId' FROM json_each(?1))`,
      )
      .bind(page, module, spec.id),
    db
      .prepare(
        `INSERT INTO outcomes (device_id, task_id, tenant_id, module, from_version, target_version, status,
           description, reason, rolled_back, attempt, finished_at)
         SELECT j.value ->> 'deviceId', ?2, ?3, ?4, j.value ->> 'fromVersion', ?5, j.value ->> 'status',
           j.value ->> 'description', j.value -> 'because', j.value ->> 'rolledBack', j.value ->> 'attempt', j.value ->> 'finishedAt'
         FROM json_each(?1) j WHERE NOT EXISTS (SELECT 1 FROM deleted_tasks WHERE id = ?2)
         ON CONFLICT (device_id, task_id) DO UPDATE SET status = excluded.status,
           description = excluded.description, reason = excluded.reason, rolled_back = excluded.rolled_back, attempt = excluded.attempt,
           finished_at = excluded.finished_at
         WHERE (status, description, rolled_back, attempt) IS NOT
           (excluded.status, excluded.description, excluded.rolled_back, excluded.attempt)`,
      )
      .bind(page, spec.id, spec.tenantId, module, version),
    db
      .prepare(
        `UPDATE device_modules SET rolled_back = j.value ->> 'description' FROM json_each(?1) j
         WHERE device_modules.device_id = j.value ->> 'deviceId' AND module = ?2 AND j.value ->> 'rolledBack'
           AND rolled_back IS NOT j.value ->> 'description' AND device_modules.version <> ?3`,
      )
      .bind(page, module, version),
  ])
  return (freed!.results as { deviceId: string; taskId: string | null }[]).filter(
    (row): row is { deviceId: string; taskId: string } => row.taskId !== null && row.taskId !== spec.id,
  )
}

/** Keeps the id of a cancellation, so that the ids of a device grow with it too (src/protocol/README.md#messages). */
export async function raiseNoticeIds(
  db: D1Database,
  module: string,
  notices: { deviceId: string; noticeId: number }[],
): Promise<void> {
  await db
    .prepare(
      `UPDATE upgrades SET last_notice_id = j.value ->> 'noticeId' FROM json_each(?1) j
       WHERE upgrades.device_id = j.value ->> 'deviceId' AND module = ?2 AND last_notice_id < j.value ->> 'noticeId'`,
    )
    .bind(JSON.stringify(notices), module)
    .run()
}
