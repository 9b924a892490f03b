import { and, desc, eq, gt, type SQL, sql } from 'drizzle-orm'
import { type Db, openDb } from '../../db/client.ts'
import { tasks } from '../../db/schema.ts'
import type { TaskCounts, TaskPolicy, TaskSelection, TaskStatus } from '../rules/task.ts'
import type { TaskRef } from './removal.ts'

/** A task's row; the schema does not know the shapes of its JSON. */
export type TaskRow = Omit<typeof tasks.$inferSelect, 'selection' | 'policy' | 'counts'> & {
  selection: TaskSelection
  policy: TaskPolicy
  counts: TaskCounts
}

export interface TaskListFilter {
  productId?: string | undefined
  packageId?: string | undefined
  status?: TaskStatus | undefined
  /** Paused, but not by an operator. */
  hasStopped?: boolean | undefined
}

/** One row more than `limit`, for `page`. */
export const listTasks = (
  db: Db,
  tenantId: string,
  filter: TaskListFilter,
  limit: number,
  cursor = '',
): Promise<TaskRow[]> =>
  db
    .select()
    .from(tasks)
    .where(and(matching(tenantId, filter), gt(tasks.id, cursor)))
    .orderBy(tasks.id)
    .limit(limit + 1) as Promise<TaskRow[]>

/** The same, newest first. The cursor comes from `newestCursor`: an id made by a repeatable request tells no time. */
export const listNewestTasks = (
  db: Db,
  tenantId: string,
  filter: TaskListFilter,
  limit: number,
  cursor?: string,
): Promise<TaskRow[]> =>
  db
    .select()
    .from(tasks)
    .where(and(matching(tenantId, filter), cursor === undefined ? undefined : before(cursor)))
    .orderBy(desc(tasks.createdAt), desc(tasks.id))
    .limit(limit + 1) as Promise<TaskRow[]>

export const newestCursor = ({ createdAt, id }: TaskRow) => `${createdAt}.${id}`

/** A text that is no cursor stands after every task. */
function before(cursor: string): SQL {
  const [at, id = ''] = cursor.split('.', 2)
  return sql`(${tasks.createdAt}, ${tasks.id}) < (${Number(at) || 0}, ${id})`
}

/** Rows of earlier releases have only the sentence. */
const STOPPED_BY_ITSELF = sql`coalesce(${tasks.pausedBecause} ->> 'code', ${tasks.pausedReason})
  NOT IN ('paused_by_operator', 'paused by an operator')`

const matching = (tenantId: string, { productId, packageId, status, hasStopped }: TaskListFilter) =>
  and(
    eq(tasks.tenantId, tenantId),
    productId === undefined ? undefined : eq(tasks.productId, productId),
    status === undefined ? undefined : eq(tasks.status, status),
    hasStopped ? and(eq(tasks.status, 'paused'), STOPPED_BY_ITSELF) : undefined,
    packageId === undefined
      ? undefined
      : sql`EXISTS (SELECT 1 FROM json_each(${tasks.packageIds}) WHERE value = ${packageId})`,
  )

/** Undefined if the tenant has no task of this id. */
export const findTask = (
  d1: D1Database,
  { id, tenantId }: TaskRef,
): Promise<{ archivedAt: number | null } | undefined> =>
  openDb(d1)
    .select({ archivedAt: tasks.archivedAt })
    .from(tasks)
    .where(and(eq(tasks.id, id), eq(tasks.tenantId, tenantId)))
    .get()

/** The product's tasks that are not over. */
export async function findTasksOfProduct(d1: D1Database, productId: string): Promise<string[]> {
  const { results } = await d1
    .prepare(`SELECT id FROM tasks WHERE product_id = ?1 AND status IN ('scheduled', 'running', 'paused')`)
    .bind(productId)
    .all<{ id: string }>()
  return results.map(({ id }) => id)
}

/** The product's tasks that go on taking in devices. */
export async function findDynamicTasks(d1: D1Database, productId: string): Promise<string[]> {
  const { results } = await d1
    .prepare(
      `SELECT id FROM tasks WHERE product_id = ?1 AND status IN ('running', 'paused') AND policy ->> 'dynamic'`,
    )
    .bind(productId)
    .all<{ id: string }>()
  return results.map(({ id }) => id)
}

/** Tasks that may have something to do for the device: those of its product, and those that hold its slots. */
export async function findTasksOfDevice(
  d1: D1Database,
  device: { id: string; productId: string },
): Promise<string[]> {
  const { results } = await d1
    .prepare(
      `SELECT id FROM tasks WHERE product_id = ?1 AND status IN ('scheduled', 'running', 'paused')
       UNION SELECT task_id FROM upgrades WHERE device_id = ?2 AND active = 1`,
    )
    .bind(device.productId, device.id)
    .all<{ id: string }>()
  return results.map(({ id }) => id)
}

/** The modules of the device that have an active upgrade. */
export async function findActiveSlots(d1: D1Database, deviceId: string): Promise<string[]> {
  const { results } = await d1
    .prepare('SELECT module FROM upgrades WHERE device_id = ?1 AND active = 1')
    .bind(deviceId)
    .all<{ module: string }>()
  return results.map(({ module }) => module)
}
