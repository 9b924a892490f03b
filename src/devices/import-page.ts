import { newId } from '../common/ids.ts'
import { numberIsTaken } from '../hub/scope.ts'
import { isLongEnough, newAccessToken, TOKEN_FAULT } from './device.ts'
import type { ImportRow, RejectedRow } from './import-rows.ts'

export interface PageResult {
  created: number
  updated: number
  /** The updated devices that differ from before; `updated` also counts rows that changed nothing. */
  changedIds: string[]
  rejected: RejectedRow[]
  /** How many statements it took: at most 4. */
  statements: number
}

/** An existing device that has a row's number, or the token that the row gives, or the number as its topic. */
interface Known {
  row: number
  by: 'number' | 'token' | 'topic'
  isOwn: number
  id: string
  name: string | null
  accessToken: string
  tags: string
  basic: number
}

interface Insert {
  row: ImportRow
  id: string
  number: string
  name: string | null
  token: string
  tags: string
}

/** An absent field leaves the device's own value. */
interface Update {
  row: ImportRow
  id: string
  name?: string | null
  tags?: string
  token?: string
}

const NUMBER = "(j.value ->> '$.number')"

const LOOK_UP = `
  SELECT j.key AS row, 'number' AS by, 1 AS isOwn, d.id, d.name, d.access_token AS accessToken, d.tags,
    d.password_hash IS NOT NULL AS basic
  FROM json_each(?1) j CROSS JOIN devices d ON d.product_id = ?2 AND d.number = j.value ->> '$.number'
  UNION ALL
  SELECT j.key, 'token', d.tenant_id = ?3, d.id, NULL, d.access_token, '[]', 0
  FROM json_each(?1) j CROSS JOIN devices d ON d.access_token = j.value ->> '$.accessToken'
  UNION ALL
  SELECT j.key, 'topic', 0, '', NULL, '', '[]', 0
  FROM json_each(?1) j CROSS JOIN products p ON p.id = ?2 WHERE ${numberIsTaken(NUMBER)}`

const INSERT = `
  INSERT INTO devices (id, tenant_id, product_id, number, name, access_token, tags, enabled, created_at)
  SELECT j.value ->> '$.id', p.tenant_id, p.id, j.value ->> '$.number', j.value ->> '$.name',
    j.value ->> '$.token', j.value ->> '$.tags', 1, ?4
  FROM products p CROSS JOIN json_each(?1) j WHERE p.tenant_id = ?2 AND p.id = ?3 AND NOT ${numberIsTaken(NUMBER)}
  ON CONFLICT DO NOTHING RETURNING id`

/** The unary plus disables the indexes on tenant and product: SQLite then looks up the page's ids only. */
const update = (set: string) => `
  UPDATE OR IGNORE devices SET ${set},
    name = CASE WHEN json_type(j.value, '$.name') IS NULL THEN name ELSE j.value ->> '$.name' END,
    tags = coalesce(j.value ->> '$.tags', tags)
  FROM json_each(?1) j
  WHERE devices.id = j.value ->> '$.id' AND +devices.tenant_id = ?2 AND +devices.product_id = ?3
  RETURNING devices.id`

/** Without the token, since setting an indexed column rewrites its index entry even if the value is the same. */
const UPDATE = update('enabled = enabled')
const UPDATE_TOKENS = update("access_token = j.value ->> '$.token'")

/**
 * Writes one page of rows with at most four statements; those that write are one transaction. A trial writes
 * nothing and returns what would be written.
 */
export async function importPage(
  db: D1Database,
  product: { id: string; tenantId: string },
  rows: ImportRow[],
  now: number,
  isTrial: boolean,
): Promise<PageResult> {
  const asked = JSON.stringify(rows.map(({ number, accessToken }) => ({ number, accessToken })))
  const known = await db.prepare(LOOK_UP).bind(asked, product.id, product.tenantId).all<Known>()
  // A trial says nothing of other tenants' tokens: it leaves no trace, so anybody could try tokens with it.
  const shown = known.results.filter(({ by, isOwn }) => by !== 'token' || isOwn === 1 || !isTrial)
  const plan = planPage(rows, shown)
  const withToken = plan.updates.filter((update) => update.token !== undefined)
  const withoutToken = plan.updates.filter((update) => update.token === undefined)
  const writes = [
    { sql: INSERT, changes: plan.inserts, more: [now] },
    { sql: UPDATE, changes: withoutToken, more: [] },
    { sql: UPDATE_TOKENS, changes: withToken, more: [] },
  ].filter(({ changes }) => changes.length > 0)
  const written = new Set(isTrial ? [...plan.inserts, ...plan.updates].map(({ id }) => id) : [])
  if (writes.length > 0 && !isTrial) {
    const results = await db.batch<{ id: string }>(
      writes.map(({ sql, changes, more }) => {
        const values = JSON.stringify(changes.map(({ row: _, ...change }) => change))
        return db.prepare(sql).bind(values, product.tenantId, product.id, ...more)
      }),
    )
    for (const { results: rows } of results) for (const { id } of rows) written.add(id)
  }
  const lost = [...plan.inserts, ...plan.updates]
    .filter(({ id }) => !written.has(id))
    .map(({ row }) => ({ line: row.line, reason: 'number or token was taken at the same time' }))
  const count = (changes: { id: string }[]) => changes.filter(({ id }) => written.has(id)).length
  return {
    created: count(plan.inserts),
    updated: count(plan.updates) + plan.unchanged,
    changedIds: plan.updates.map(({ id }) => id).filter((id) => written.has(id)),
    rejected: [...plan.rejected, ...lost],
    statements: 1 + (isTrial ? 0 : writes.length),
  }
}

/** Sorts the rows into inserts, updates and rejections, by the existing devices that have their numbers or tokens. */
function planPage(rows: ImportRow[], known: Known[]) {
  const byNumber = new Map<number, Known>()
  const tokenOwner = new Map<number, string>()
  const topicTaken = new Set<number>()
  for (const device of known) {
    if (device.by === 'number') byNumber.set(device.row, device)
    else if (device.by === 'topic') topicTaken.add(device.row)
    else tokenOwner.set(device.row, device.id)
  }
  const plan = {
    inserts: [] as Insert[],
    updates: [] as Update[],
    rejected: [] as RejectedRow[],
    unchanged: 0,
  }
  for (const [index, row] of rows.entries()) {
    const device = byNumber.get(index)
    const owner = tokenOwner.get(index)
    const newToken = row.accessToken === device?.accessToken ? undefined : row.accessToken
    const reject = (reason: string) => plan.rejected.push({ line: row.line, reason })
    if (newToken !== undefined && !isLongEnough(newToken)) reject(`access_token: ${TOKEN_FAULT}`)
    else if (device?.basic && newToken !== undefined)
      reject('access_token: the device has a username and password')
    else if (!device && topicTaken.has(index))
      reject('number: another device of the shared bridge has it as its topic')
    // After all else: whoever tries tokens with an import makes a device for each that is free.
    else if (owner !== undefined && owner !== device?.id) reject('access_token: another device has it')
    else if (!device) plan.inserts.push(toInsert(row))
    else {
      const change = toUpdate(row, device)
      if (change) plan.updates.push(change)
      else plan.unchanged += 1
    }
  }
  return plan
}

const toInsert = (row: ImportRow): Insert => ({
  row,
  id: newId('dev'),
  number: row.number,
  name: row.name ?? null,
  token: row.accessToken ?? newAccessToken(),
  tags: JSON.stringify(row.tags ?? []),
})

/** Undefined if the row changes nothing. */
function toUpdate(row: ImportRow, device: Known): Update | undefined {
  const tags = row.tags && JSON.stringify(row.tags)
  const change = {
    ...(row.name !== undefined && row.name !== device.name && { name: row.name }),
    ...(tags !== undefined && tags !== device.tags && { tags }),
    ...(row.accessToken !== undefined &&
      row.accessToken !== device.accessToken && { token: row.accessToken }),
  }
  return Object.keys(change).length > 0 ? { row, id: device.id, ...change } : undefined
}
