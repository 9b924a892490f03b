import { inEnglish, type Params, type Reason, type ReasonCode } from '../../reasons/reason.ts'
import { countSelected, readWarnings } from '../database/warnings.ts'
import type { TaskSpec } from '../rules/task.ts'

export const WARNING_CODES = [
  'file_missing',
  'file_changed',
  'older_task_cut_short',
  'leaves_newer_version',
  'module_never_reported',
  'no_devices_yet',
  'all_at_once',
] as const satisfies ReasonCode[]

/** What an operator should know of a task before it sends anything; `message` in English. */
export interface Warning {
  code: ReasonCode
  message: string
  params: Params
}

export const toWarning = (why: Reason): Warning => ({
  code: why.code,
  message: inEnglish(why),
  params: why.params,
})

/** Ids in one query: its parameter stays below D1's 2 MB. */
const IDS_PAGE_SIZE = 20_000

/** A list of devices goes to the database in pages; a rule in one. */
export function pagesOf(listed: string[] | null): (string[] | null)[] {
  if (listed === null) return [null]
  const ids = [...new Set(listed)]
  return Array.from({ length: Math.ceil(ids.length / IDS_PAGE_SIZE) }, (_, page) =>
    ids.slice(page * IDS_PAGE_SIZE, (page + 1) * IDS_PAGE_SIZE),
  )
}

/** How many devices the task would take in now, and what speaks against it. */
export async function warningsOf(
  db: D1Database,
  spec: TaskSpec,
  listed: string[] | null,
): Promise<{ devices: number; warnings: Warning[] }> {
  const pages = await Promise.all(pagesOf(listed).map((ids) => countSelected(db, spec, ids)))
  const devices = pages.reduce((sum, page) => sum + page.devices, 0)
  const onNewer = Map.groupBy(
    pages.flatMap((page) => page.onNewer),
    ({ version }) => version,
  )
  const selected = {
    devices,
    onNewer: [...onNewer].map(([version, counts]) => ({
      version,
      devices: counts.reduce((sum, { devices }) => sum + devices, 0),
    })),
  }
  const warnings = await readWarnings(db, spec, selected, Date.now())
  return {
    devices,
    warnings: warnings.map(toWarning),
  }
}
