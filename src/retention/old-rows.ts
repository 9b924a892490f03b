import { retried } from '../common/retries.ts'
import { readCursor, writeCursor } from './cursors.ts'

/** So many rows are looked at in one statement, and so many pages in one run: it makes 1,000 queries at most. */
const PAGE_SIZE = 5000
const MAX_PAGES = 20
const AUDIT_PAGE_SIZE = 1000

const HAS_NO_DEVICE = (table: string) => `NOT EXISTS (SELECT 1 FROM devices WHERE id = ${table}.device_id)`

/**
 * Tables of what is known of devices, and which of their rows go. They are looked at in the order of their keys, since an
 * index by time would cost a row written for each row.
 */
const TABLES = [
  {
    name: 'outcomes',
    keys: ['device_id', 'task_id'],
    goes: `(finished_at < ?1 OR ${HAS_NO_DEVICE('outcomes')})`,
  },
  // The task ends an active one.
  {
    name: 'upgrades',
    keys: ['device_id', 'module'],
    goes: `active = 0 AND ${HAS_NO_DEVICE('upgrades')}`,
  },
  {
    name: 'device_modules',
    keys: ['device_id', 'module'],
    goes: HAS_NO_DEVICE('device_modules'),
  },
  { name: 'rejections', keys: ['device_id'], goes: HAS_NO_DEVICE('rejections') },
] as const

type Table = (typeof TABLES)[number]

/** Deletes old outcomes, and rows of devices that were deleted. `before`: ms since 1970; null keeps old outcomes. */
export async function deleteOldRows(d1: D1Database, before: number | null): Promise<void> {
  for (const table of TABLES) {
    for (let page = 0; page < MAX_PAGES; page++) {
      if (!(await sweepPage(d1, table, before))) break
    }
  }
}

/** Looks at the next page. Returns whether there are more; after the last one it begins anew the next time. */
async function sweepPage(
  d1: D1Database,
  { name, keys, goes }: Table,
  before: number | null,
): Promise<boolean> {
  const cursor = await readCursor(d1, name)
  const after: string[] = cursor === '' ? keys.map(() => '') : JSON.parse(cursor)
  const columns = keys.join(', ')
  const place = (first: number) => `(${keys.map((_, index) => `?${first + index}`).join(', ')})`
  const last = await d1
    .prepare(
      `SELECT ${columns} FROM ${name} WHERE (${columns}) > ${place(1)} ORDER BY ${columns} LIMIT 1 OFFSET ${PAGE_SIZE - 1}`,
    )
    .bind(...after)
    .first<Record<string, string>>()
  const upTo = last && keys.map((key) => last[key]!)
  const end = upTo ? `AND (${columns}) <= ${place(2 + keys.length)}` : ''
  await retried(() =>
    d1
      .prepare(`DELETE FROM ${name} WHERE (${columns}) > ${place(2)} ${end} AND ${goes}`)
      .bind(before ?? -1, ...after, ...(upTo ?? []))
      .run(),
  )
  await writeCursor(d1, name, upTo ? JSON.stringify(upTo) : '')
  return upTo !== null
}

/** Ids of entries grow with time. */
export async function deleteOldEntries(d1: D1Database, before: number): Promise<void> {
  for (let page = 0; page < MAX_PAGES; page++) {
    const { meta } = await retried(() =>
      d1
        .prepare(
          `DELETE FROM audit_entries
           WHERE id IN (SELECT id FROM audit_entries ORDER BY id LIMIT ${AUDIT_PAGE_SIZE}) AND at < ?`,
        )
        .bind(before)
        .run(),
    )
    if (meta.changes < AUDIT_PAGE_SIZE) return
  }
}

/** By then nothing that was under way when a task was deleted can make it anew. */
export const forgetDeletedTasks = (d1: D1Database, before: number) =>
  retried(() => d1.prepare('DELETE FROM deleted_tasks WHERE deleted_at < ?').bind(before).run())
