import type { DeviceFilter, TaskSpec } from '../rules/task.ts'
import { CERTAIN } from './slots.ts'

// Which devices a task is for, as queries.

/** A device as a task takes it in. `fromVersion` is the version that its module reported last. */
export interface SelectedDevice {
  deviceId: string
  number: string
  name: string | null
  fromVersion: string | null
  /** Does it run that version for certain? */
  isCertain: boolean
}

/** Ids in one page of a list, and devices in one page of a query. */
export const SELECTION_PAGE_SIZE = 1000

export const filterOf = ({ selection }: TaskSpec): DeviceFilter =>
  'filter' in selection ? selection.filter : {}

/** Devices of the task's product, in the order of their ids. */
export async function readDevices(
  db: D1Database,
  spec: TaskSpec,
  { after, limit, ids, filter }: { after: string; limit: number; ids: string[] | null; filter: DeviceFilter },
): Promise<SelectedDevice[]> {
  const { results } = await db
    .prepare(
      `SELECT d.id AS deviceId, d.number, d.name, m.version AS fromVersion, ${CERTAIN} AS isCertain
     FROM devices d LEFT JOIN device_modules m ON m.device_id = d.id AND m.module = ?3
       LEFT JOIN upgrades u ON u.device_id = d.id AND u.module = ?3
     WHERE ${DEVICE_FILTER_SQL} AND d.id > ?7 ORDER BY d.id LIMIT ?8`,
    )
    .bind(...filterBindings(spec, ids, filter), after, limit)
    .all<Omit<SelectedDevice, 'isCertain'> & { isCertain: number }>()
  return results.map((device) => ({ ...device, isCertain: device.isCertain === 1 }))
}

/** Does the rule of the task choose any device now? */
export const hasDevices = async (db: D1Database, spec: TaskSpec): Promise<boolean> =>
  (await readDevices(db, spec, { after: '', limit: 1, ids: null, filter: filterOf(spec) })).length > 0

/** Bindings ?1 to ?6 of a query over devices `d` and their module `m`; see `filterBindings`. */
export const DEVICE_FILTER_SQL = `
  d.tenant_id = ?1 AND d.product_id = ?2
  AND (?4 IS NULL OR d.id IN (SELECT value FROM json_each(?4)))
  AND (?5 ->> 'versions' IS NULL OR m.version IN (SELECT value FROM json_each(?5, '$.versions')))
  AND (?5 ->> 'tags' IS NULL OR EXISTS (
    SELECT 1 FROM json_each(d.tags) t WHERE t.value IN (SELECT value FROM json_each(?5, '$.tags'))))
  AND (?6 IS NULL OR instr(lower(d.number), lower(?6)) > 0 OR instr(lower(coalesce(d.name, '')), lower(?6)) > 0)`

export const filterBindings = (spec: TaskSpec, ids: string[] | null, filter: DeviceFilter) =>
  [
    spec.tenantId,
    spec.productId,
    spec.module,
    ids && JSON.stringify(ids),
    JSON.stringify(filter),
    filter.search ?? null,
  ] as const

/** Pages of a list of devices, as the object keeps them. */
export function selectionPages(ids: string[]): string[][] {
  const sorted = [...new Set(ids)].sort()
  const pages: string[][] = []
  for (let at = 0; at < sorted.length; at += SELECTION_PAGE_SIZE)
    pages.push(sorted.slice(at, at + SELECTION_PAGE_SIZE))
  return pages
}

/**
 * Which of the product's devices these ids or numbers name, in no order. `CROSS JOIN`: the planner would else read the
 * whole list again for each device of the product.
 */
export async function resolveDevices(
  d1: D1Database,
  product: { tenantId: string; productId: string },
  by: 'id' | 'number',
  values: string[],
): Promise<{ id: string; value: string }[]> {
  const { results } = await d1
    .prepare(
      `SELECT d.id, d.${by} AS value FROM json_each(?3) j
       CROSS JOIN devices d ON d.${by} = j.value AND d.tenant_id = ?1 AND d.product_id = ?2`,
    )
    .bind(product.tenantId, product.productId, JSON.stringify(values))
    .all<{ id: string; value: string }>()
  return results
}
