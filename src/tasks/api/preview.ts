import type { Env } from '../../common/env.ts'
import { iso } from '../../common/time.ts'
import { inEnglish, type ReasonCode, reason } from '../../reasons/reason.ts'
import { DEVICE_FILTER_SQL, filterBindings, filterOf } from '../database/selection.ts'
import { CERTAIN } from '../database/slots.ts'
import { estimate } from '../rules/estimate.ts'
import type { TaskPackage, TaskSpec } from '../rules/task.ts'
import { type NewTask, resolveTask } from './create-task.ts'
import { pagesOf, type Warning, warningsOf } from './warnings.ts'

/** A device counts once, for the first of these that it is. */
export const SKIP_CODES = [
  'disabled',
  'already_on_target',
  'wrong_source_version',
  'version_uncertain',
  'busy',
] as const satisfies ReasonCode[]
type SkipCode = (typeof SKIP_CODES)[number]

export interface Preview {
  devices: number
  /** Devices that would be sent a notice now. */
  willReceive: number
  /** `reason` and `outcome` in English. */
  skipped: { code: SkipCode; reason: string; count: number; outcome: string }[]
  waves: { percent: number; devices: number; opensAt: string | null }[]
  endsAt: string | null
  notReached: number
  /** What the devices that would be sent a notice would download. */
  bytes: number
  packages: { packageId: string; sourceVersion: string | null; devices: number; bytes: number }[]
  warnings: Warning[]
}

/** What the database says of a group of devices: why they would be skipped, or which package they would get. */
interface Group {
  skip: SkipCode | null
  /** 1 if they are on the target version already, and so are part of no wave. */
  there: number
  /** The version that their differential package starts from; null for the full one. */
  source: string | null
  count: number
}

/** What a task would do if it were created now. Changes nothing. */
export async function previewTask(env: Env, task: NewTask): Promise<Preview> {
  const { spec, listed, fileWarnings } = await resolveTask(env, task)
  const { warnings } = await warningsOf(env.DB, spec, listed)
  const groups = (await Promise.all(pagesOf(listed).map((ids) => readGroups(env.DB, spec, ids)))).flat()
  const count = (is: (group: Group) => boolean) =>
    groups.filter(is).reduce((sum, group) => sum + group.count, 0)
  const devices = count(() => true)
  const willReceive = count(({ skip }) => skip === null)
  const skipped = SKIP_CODES.map((code) => ({
    code,
    reason: inEnglish(reason(code)),
    count: count(({ skip }) => skip === code),
    outcome: outcomeOf(code, spec.policy),
  }))
  const inWaves = count(({ there }) => !there)
  const { waves, endsAt, notReached } = estimate(spec, inWaves, willReceive)
  const packages = spec.packages.map(({ id, sourceVersion, size }) => {
    const taking = count(({ skip, source }) => skip === null && source === sourceVersion)
    return { packageId: id, sourceVersion, devices: taking, bytes: taking * size }
  })
  return {
    devices,
    willReceive,
    skipped: skipped.filter(({ count }) => count > 0),
    waves: waves.map((wave) => ({ ...wave, opensAt: iso(wave.opensAt) })),
    endsAt: iso(endsAt),
    notReached,
    bytes: packages.reduce((sum, { bytes }) => sum + bytes, 0),
    packages,
    warnings: [...fileWarnings, ...warnings],
  }
}

/** What becomes of the devices that are skipped, for operators (src/protocol/README.md#slots). */
function outcomeOf(code: SkipCode, { onBusy }: TaskSpec['policy']): string {
  if (code === 'disabled') return 'waits until it is enabled'
  if (code === 'already_on_target') return 'succeeds without a notice'
  if (code === 'version_uncertain') return 'waits until it reports its version'
  if (code === 'wrong_source_version') return 'waits until it reports a version that a package fits'
  if (onBusy === 'fail') return 'fails: another upgrade is active'
  if (onBusy === 'wait') return 'waits until the other upgrade has ended'
  return 'replaces the other upgrade, or waits for its end where the device has begun it'
}

/** Counted in the database: no device leaves it, however many there are. */
async function readGroups(db: D1Database, spec: TaskSpec, ids: string[] | null): Promise<Group[]> {
  const { results } = await db
    .prepare(
      `SELECT CASE
           WHEN NOT d.enabled THEN 'disabled'
           WHEN m.version = ?7 AND ${CERTAIN} THEN 'already_on_target'
           WHEN NOT ?9 AND NOT ${CERTAIN} THEN 'version_uncertain'
           WHEN NOT ?9 AND m.version NOT IN (SELECT value FROM json_each(?8)) THEN 'wrong_source_version'
           WHEN u.active THEN 'busy'
         END AS skip,
         coalesce(m.version = ?7 AND ${CERTAIN}, 0) AS there,
         iif(m.version IN (SELECT value FROM json_each(?8)) AND ${CERTAIN}, m.version, NULL) AS source, count(*) AS count
       FROM devices d
       LEFT JOIN device_modules m ON m.device_id = d.id AND m.module = ?3
       LEFT JOIN upgrades u ON u.device_id = d.id AND u.module = ?3
       WHERE ${DEVICE_FILTER_SQL} GROUP BY 1, 2, 3`,
    )
    .bind(
      ...filterBindings(spec, ids, filterOf(spec)),
      spec.targetVersion,
      JSON.stringify(sourcesOf(spec.packages)),
      spec.packages.some(({ sourceVersion }) => sourceVersion === null) ? 1 : 0,
    )
    .all<Group>()
  return results
}

const sourcesOf = (packages: TaskPackage[]) => packages.flatMap(({ sourceVersion }) => sourceVersion ?? [])
