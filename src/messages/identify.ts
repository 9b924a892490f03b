import { hubOf, inScopeOf, numberIsTopic } from '../hub/scope.ts'
import { DEFAULT_MODULE, type DeviceAddress, type TopicFamily } from '../protocol/device.ts'

/** A device's slot, as far as it says which task a message concerns. */
export interface HeldSlot {
  module: string
  taskId: string
  rank: string
  active: boolean
  /** Its upgrade ended by 100 %, and the device has not reported its version since. */
  isAssumed: boolean
  waitingTaskId: string | null
}

/** A task of the device's product that is under way. */
export interface RunningTask {
  taskId: string
  module: string
  rank: string
}

/** The device that sent a message, and all that it takes to find the tasks that the message concerns. */
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
  /** The product's word for `default`; null if it has none. */
  defaultModuleParam: string | null
  /** Modules that the device reported. */
  ownModules: Set<string>
  /** Those, and the modules of its slots and of its product's packages and tasks. */
  modules: Set<string>
}

/** One row per slot of a device; a device without a slot has one row, too. */
interface SenderRecord {
  id: string
  tenant_id: string
  product_id: string
  number: string
  access_token: string
  password_hash: string | null
  enabled: number
  topic_family: TopicFamily | null
  number_is_topic: number
  online: number | null
  last_seen_at: number | null
  hub: string
  module: string | null
  task_id: string
  rank: string
  active: number
  is_assumed: number
  waiting_task_id: string | null
  default_module_param: string | null
  has_default: number
}

interface ModuleRecord {
  device_id: string | null
  product_id: string
  module: string
}

interface TaskRecord {
  product_id: string
  id: string
  module: string
  rank: string
}

const SENDERS_SQL = `
  SELECT d.id, d.tenant_id, d.product_id, d.number, d.access_token, d.password_hash, d.enabled, d.topic_family,
    d.online, d.last_seen_at, d.topic_family = 'devices' AND ${numberIsTopic()} AS number_is_topic, ${hubOf()} AS hub,
    u.module, u.task_id, u.rank, u.active, u.assumed_version IS NOT NULL AS is_assumed, u.waiting_task_id, p.default_module_param,
    EXISTS (SELECT 1 FROM device_modules WHERE device_id = d.id AND module = '${DEFAULT_MODULE}') AS has_default
  FROM json_each(?1) j JOIN devices d ON d.access_token = j.value JOIN products p ON p.id = d.product_id
    LEFT JOIN upgrades u ON u.device_id = d.id
  WHERE ?2 IS NULL OR ${inScopeOf('?2')}`

/** The tasks that run for the products of these devices. */
const TASKS_SQL = `
  SELECT product_id, id, module, rank FROM tasks
  WHERE product_id IN (SELECT d.product_id FROM json_each(?1) j JOIN devices d ON d.access_token = j.value)
    AND status IN ('running', 'paused', 'scheduled') AND start_at <= ?2`

/** The modules beside `default` that these devices reported, and that their products have packages for. */
const MODULES_SQL = `
  SELECT d.id AS device_id, d.product_id, m.module FROM json_each(?1) j
    JOIN devices d ON d.access_token = j.value
    JOIN device_modules m ON m.device_id = d.id AND m.module <> '${DEFAULT_MODULE}'
  UNION ALL
  SELECT DISTINCT NULL, product_id, module FROM packages
  WHERE product_id IN (SELECT d.product_id FROM json_each(?1) j JOIN devices d ON d.access_token = j.value)
    AND module <> '${DEFAULT_MODULE}'`

/** Which of these notices' devices are in the bridge's scope, and of these tasks, in the same tenant, there. */
const NOTICES_SQL = `
  SELECT j.value ->> 'device' AS device, j.value ->> 'task' AS task, t.id IS NOT NULL AS hasTask
  FROM json_each(?1) j JOIN devices d ON d.id = j.value ->> 'device' JOIN products p ON p.id = d.product_id
    LEFT JOIN tasks t ON t.id = j.value ->> 'task' AND t.tenant_id = d.tenant_id
  WHERE ${inScopeOf('?2')}`

/** What a batch names. */
export interface Named {
  usernames: string[]
  /** The task and the device of each notice. */
  notices: { task: string; device: string }[]
}

/** The senders by username, and how far each notice is known, by `noticeKey`; unknown ones are absent. */
export interface Identified {
  senders: Map<string, Sender>
  notices: Map<string, 'known' | 'unknown task'>
}

export const noticeKey = ({ task, device }: { task: string; device: string }) => `${task} ${device}`

/**
 * The one query of a batch: the devices with these usernames, and the devices and tasks of these notices; all only within
 * the scope of the bridge whose hub it is (a device outside is an unknown device). `hub` is null for a device's own HTTPS
 * request, which names no notices.
 */
export async function identify(
  db: D1Database,
  hub: string | null,
  named: Named,
  now: number,
): Promise<Identified> {
  const usernameList = JSON.stringify(named.usernames)
  const [senders, running, modules, notices] = await db.batch([
    db.prepare(SENDERS_SQL).bind(usernameList, hub),
    db.prepare(TASKS_SQL).bind(usernameList, now),
    db.prepare(MODULES_SQL).bind(usernameList),
    db.prepare(NOTICES_SQL).bind(JSON.stringify(named.notices), hub),
  ])
  return {
    senders: toSenders(
      senders!.results as SenderRecord[],
      running!.results as TaskRecord[],
      modules!.results as ModuleRecord[],
    ),
    notices: new Map(
      (notices!.results as { device: string; task: string; hasTask: number }[]).map((row) => [
        noticeKey(row),
        row.hasTask === 1 ? 'known' : 'unknown task',
      ]),
    ),
  }
}

function toSenders(rows: SenderRecord[], tasks: TaskRecord[], modules: ModuleRecord[]): Map<string, Sender> {
  const ownModules = Map.groupBy(modules, ({ device_id }) => device_id)
  const packageModules = Map.groupBy(ownModules.get(null) ?? [], ({ product_id }) => product_id)
  const tasksOf = new Map<string, RunningTask[]>()
  for (const { product_id, id, module, rank } of tasks) {
    const others = tasksOf.get(product_id)
    if (others) others.push({ taskId: id, module, rank })
    else tasksOf.set(product_id, [{ taskId: id, module, rank }])
  }
  const senders = new Map<string, Sender>()
  for (const row of rows) {
    const known = senders.get(row.access_token)
    const sender = known ?? toSender(row, tasksOf.get(row.product_id) ?? [])
    if (!known) {
      senders.set(row.access_token, sender)
      for (const { module } of ownModules.get(row.id) ?? []) sender.ownModules.add(module)
      const theirs = [
        ...(ownModules.get(row.id) ?? []),
        ...(packageModules.get(row.product_id) ?? []),
        ...sender.tasks,
      ]
      for (const { module } of theirs) sender.modules.add(module)
    }
    if (row.module === null) continue
    sender.modules.add(row.module)
    // The task that held it last was deleted.
    if (row.task_id === '') continue
    sender.slots.push({
      module: row.module,
      taskId: row.task_id,
      rank: row.rank,
      active: row.active === 1,
      isAssumed: row.is_assumed === 1,
      waitingTaskId: row.waiting_task_id,
    })
  }
  return senders
}

const toSender = (row: SenderRecord, tasks: RunningTask[]): Sender => ({
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
  slots: [],
  tasks,
  defaultModuleParam: row.default_module_param,
  ownModules: new Set(row.has_default === 1 ? [DEFAULT_MODULE] : []),
  modules: new Set(),
})
