import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import type { WebhookEvent } from '../webhooks/event.ts'
import { publishEvents } from '../webhooks/publish.ts'
import { readCursor, writeCursor } from './cursors.ts'
import { databaseLimit, OBJECT_LIMIT } from './settings.ts'
import { databaseBytes } from './usage.ts'

const WARN_PERCENT = 80
/** Below this it may fill up again, and is told again. */
const CALM_PERCENT = 70
const TENANTS_A_PAGE = 50
/** In one run, which makes 1,000 queries at most. */
const MAX_PAGES = 4
const TASKS_A_RUN = 20

/** How far the warning of the database has been told. */
interface Told {
  since: number
  /** The tenants up to here; null: all. */
  after: string | null
}

const DATABASE = 'filling'

/** Tells every tenant with webhooks, once, that the database fills up: `storage.filling`. */
export async function tellFillingDatabase(env: Env, now: number): Promise<void> {
  const percent = Math.floor(((await databaseBytes(env.DB)) / databaseLimit(env)) * 100)
  const cursor = await readCursor(env.DB, DATABASE)
  if (percent < CALM_PERCENT && cursor !== '') await writeCursor(env.DB, DATABASE, '')
  if (percent < WARN_PERCENT) return
  let told: Told = cursor === '' ? { since: now, after: '' } : JSON.parse(cursor)
  for (let page = 0; page < MAX_PAGES && told.after !== null; page++) {
    const { results } = await env.DB.prepare(
      `SELECT DISTINCT tenant_id AS id FROM webhooks WHERE tenant_id > ? ORDER BY tenant_id LIMIT ${TENANTS_A_PAGE}`,
    )
      .bind(told.after)
      .all<{ id: string }>()
    for (const { id } of results) {
      await publish(env, id, fillingEvent(String(told.since), now, { what: 'database', percent }))
    }
    told = { ...told, after: results.length < TENANTS_A_PAGE ? null : results.at(-1)!.id }
    await writeCursor(env.DB, DATABASE, JSON.stringify(told))
  }
}

/** Tells a tenant, once for each task, that a task's object fills up. */
export async function tellFillingTasks(env: Env, now: number): Promise<void> {
  const { results } = await env.DB.prepare(
    `SELECT id, tenant_id, name, object_bytes FROM tasks
     WHERE object_bytes >= ? AND NOT EXISTS (SELECT 1 FROM sweeps WHERE sweeps.name = 'filling ' || tasks.id)
     LIMIT ${TASKS_A_RUN}`,
  )
    .bind((OBJECT_LIMIT * WARN_PERCENT) / 100)
    .all<{ id: string; tenant_id: string; name: string; object_bytes: number }>()
  for (const { id, tenant_id, name, object_bytes } of results) {
    const percent = Math.floor((object_bytes / OBJECT_LIMIT) * 100)
    const data = { what: 'task', taskId: id, taskName: name, percent }
    await publish(env, tenant_id, fillingEvent(id, now, data))
    await writeCursor(env.DB, `filling ${id}`, String(now))
  }
}

/** A webhook that cannot be reached keeps the warning from nobody else. */
async function publish(env: Env, tenantId: string, event: WebhookEvent): Promise<void> {
  try {
    await publishEvents(env, tenantId, [event])
  } catch (error) {
    logError('retention.warning_not_sent', { tenant: tenantId, ...errorFields(error) })
  }
}

const fillingEvent = (key: string, at: number, data: Record<string, unknown>): WebhookEvent => ({
  id: `evt_filling_${key}`,
  type: 'storage.filling',
  at,
  data,
})
