import type { DeviceFilter } from './task.ts'
import type { TaskContext } from './task-context.ts'
import type { NewDevice } from './task-storage.ts'

const ENROL_PAGE_SIZE = 1000

/**
 * Takes in the next page of devices as Pending; no slot is taken. The cursor is written with the devices: cut off
 * anywhere, it goes on where it was, and a page that comes twice changes nothing.
 */
export async function enrolPage(task: TaskContext, now: () => number): Promise<void> {
  const { enrolment } = task.run
  if (!enrolment) return
  const { cursor } = enrolment
  const { devices, next } = await readPage(task, cursor)
  // A start meanwhile begins again from the first page.
  if (task.run.enrolment?.cursor !== cursor) return
  const added = task.storage.insertDevices(devices, now())
  task.run.counts.total += added
  task.run.counts.pending += added
  if (added > 0 && task.run.unwritten === 'no') task.run.unwritten = 'counts'
  task.run.enrolment = next === null ? null : { cursor: next }
  task.storage.writeRun(task.run)
}

async function readPage(
  task: TaskContext,
  cursor: string,
): Promise<{ devices: NewDevice[]; next: string | null }> {
  const { selection } = task.spec
  if ('listed' in selection) {
    const page = cursor === '' ? 0 : Number(cursor)
    const ids = task.storage.readSelection(page)
    if (!ids) return { devices: [], next: null }
    return { devices: await readDevices(task, '', ids.length, ids, {}), next: String(page + 1) }
  }
  const filter = 'filter' in selection ? selection.filter : {}
  const devices = await readDevices(task, cursor, ENROL_PAGE_SIZE, null, filter)
  const last = devices.at(-1)
  return { devices, next: devices.length < ENROL_PAGE_SIZE || !last ? null : last.deviceId }
}

/** Devices of the task's product, in the order of their ids. */
async function readDevices(
  { env, spec }: TaskContext,
  after: string,
  limit: number,
  ids: string[] | null,
  filter: DeviceFilter,
): Promise<NewDevice[]> {
  const { results } = await env.DB.prepare(
    `SELECT d.id AS deviceId, d.number, d.name, m.version AS fromVersion
     FROM devices d LEFT JOIN device_modules m ON m.device_id = d.id AND m.module = ?3
     WHERE ${DEVICE_FILTER_SQL} AND d.id > ?7 ORDER BY d.id LIMIT ?8`,
  )
    .bind(...filterBindings(spec, ids, filter), after, limit)
    .all<NewDevice>()
  return results
}

/** Bindings ?1 to ?6 of a query over devices `d` and their module `m`; see `filterBindings`. */
const DEVICE_FILTER_SQL = `
  d.tenant_id = ?1 AND d.product_id = ?2
  AND (?4 IS NULL OR d.id IN (SELECT value FROM json_each(?4)))
  AND (?5 ->> 'versions' IS NULL OR m.version IN (SELECT value FROM json_each(?5, '$.versions')))
  AND (?5 ->> 'tags' IS NULL OR EXISTS (
    SELECT 1 FROM json_each(d.tags) t WHERE t.value IN (SELECT value FROM json_each(?5, '$.tags'))))
  AND (?6 IS NULL OR instr(lower(d.number), lower(?6)) > 0 OR instr(lower(coalesce(d.name, '')), lower(?6)) > 0)`

const filterBindings = (spec: TaskContext['spec'], ids: string[] | null, filter: DeviceFilter) =>
  [
    spec.tenantId,
    spec.productId,
    spec.package.module,
    ids && JSON.stringify(ids),
    JSON.stringify(filter),
    filter.search ?? null,
  ] as const

/** Pages of a list of devices, as the object keeps them. */
export function selectionPages(ids: string[]): string[][] {
  const sorted = [...new Set(ids)].sort()
  const pages: string[][] = []
  for (let at = 0; at < sorted.length; at += ENROL_PAGE_SIZE)
    pages.push(sorted.slice(at, at + ENROL_PAGE_SIZE))
  return pages
}
