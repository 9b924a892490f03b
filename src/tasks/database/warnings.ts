import { iso } from '../../common/time.ts'
import { DEFAULT_MODULE } from '../../protocol/device.ts'
import { type Reason, reason } from '../../reasons/reason.ts'
import type { TaskSpec } from '../rules/task.ts'
import { DEVICE_FILTER_SQL, filterBindings, filterOf } from './selection.ts'
import { CERTAIN } from './slots.ts'

/** Of the tasks that a new one cuts short, so many are named. */
const MAX_OLDER_TASKS = 10
/** To tell as many devices at once, without a first wave, is worth a word. */
const MANY_DEVICES = 100

/** How many devices a task would take in, and on which versions of a package newer than its own. */
export interface Selected {
  devices: number
  onNewer: { version: string; devices: number }[]
}

/** The devices that the rule of a task chooses now; of a list `ids` is a page. Counted in the database. */
export async function countSelected(db: D1Database, spec: TaskSpec, ids: string[] | null): Promise<Selected> {
  const { results } = await db
    .prepare(
      `SELECT iif(${CERTAIN} AND m.version <> ?7 AND m.version IN (
           SELECT version FROM packages WHERE product_id = ?2 AND module = ?3 AND created_at > (
             SELECT min(created_at) FROM packages WHERE product_id = ?2 AND module = ?3 AND version = ?7)),
         m.version, NULL) AS version, count(*) AS devices
       FROM devices d
       LEFT JOIN device_modules m ON m.device_id = d.id AND m.module = ?3
       LEFT JOIN upgrades u ON u.device_id = d.id AND u.module = ?3
       WHERE ${DEVICE_FILTER_SQL} GROUP BY 1`,
    )
    .bind(...filterBindings(spec, ids, filterOf(spec)), spec.targetVersion)
    .all<{ version: string | null; devices: number }>()
  return {
    devices: results.reduce((sum, { devices }) => sum + devices, 0),
    onNewer: results.flatMap(({ version, devices }) => (version === null ? [] : { version, devices })),
  }
}

/** What whoever makes this task should know before it sends anything. */
export async function readWarnings(
  db: D1Database,
  spec: TaskSpec,
  { devices, onNewer }: Selected,
  now: number,
): Promise<Reason[]> {
  const { policy, module } = spec
  const [older, reporting] = await db.batch([
    db
      .prepare(
        `SELECT id, name, start_at FROM tasks
         WHERE tenant_id = ?1 AND product_id = ?2 AND module = ?3 AND id <> ?4
           AND status IN ('scheduled', 'running', 'paused') ORDER BY id LIMIT ?5`,
      )
      .bind(spec.tenantId, spec.productId, module, spec.id, MAX_OLDER_TASKS),
    db
      .prepare(
        `SELECT EXISTS (SELECT 1 FROM devices d JOIN device_modules m ON m.device_id = d.id AND m.module = ?2
           WHERE d.product_id = ?1) AS is_reported`,
      )
      .bind(spec.productId, module),
  ])
  const [reported] = reporting!.results as { is_reported: number }[]
  const warnings = (older!.results as { id: string; name: string; start_at: number }[]).map((task) =>
    reason('older_task_cut_short', {
      taskId: task.id,
      name: task.name,
      startAt: task.start_at > now ? iso(task.start_at) : null,
    }),
  )
  for (const { version, devices } of onNewer)
    warnings.push(reason('leaves_newer_version', { version, devices }))
  if (module !== DEFAULT_MODULE && !reported?.is_reported) {
    warnings.push(reason('module_never_reported', { module }))
  }
  if (devices === 0 && !policy.dynamic) warnings.push(reason('no_devices_yet'))
  const isStaged = policy.waves !== undefined || policy.ratePerMinute !== undefined
  if (devices >= MANY_DEVICES && !isStaged) warnings.push(reason('all_at_once', { devices }))
  return warnings
}
