import type { Params } from '../../reasons/reason.ts'
import { changeStored } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { forgetLooks } from '../notices/package-files.ts'

// A device downloads through the Worker: the task says whether it may, and notes in the history that it did.

export type DownloadAnswer =
  /** `size` in bytes, `sign` as the notice has it. */
  | { state: 'ok'; storageKey: string; size: number; sign: string }
  /** For now: the task is paused, its product frozen, or the device disabled. */
  | { state: 'paused' }
  /** For good: cancelled, recalled, or never in the task. */
  | { state: 'gone' }

/** Asked for each request, and repeatedly while a download goes on. */
export async function openDownload(
  task: TaskContext,
  deviceId: string,
  packageIndex: number,
): Promise<DownloadAnswer> {
  const answer = look(task, deviceId, packageIndex)
  if (answer.state !== 'ok') return answer
  if (!(await isServed(task, deviceId))) return { state: 'paused' }
  // It may have been paused or cancelled meanwhile.
  return look(task, deviceId, packageIndex)
}

function look({ spec, run, storage }: TaskContext, deviceId: string, packageIndex: number): DownloadAnswer {
  const pkg = spec.packages[packageIndex]
  const row = storage.readRow(deviceId)
  if (!pkg || !row || run.recalled.includes(pkg.id)) return { state: 'gone' }
  if (run.status === 'cancelled' || row.upgrade.status === 'cancelled') return { state: 'gone' }
  if (run.status === 'paused') return { state: 'paused' }
  const { storageKey, size, sign } = pkg
  return { state: 'ok', storageKey, size, sign }
}

/**
 * Is the device enabled, and its product not frozen? The object reads this, since the Worker's queries are counted over
 * the whole download.
 */
const isServed = async ({ env, spec }: TaskContext, deviceId: string): Promise<boolean> =>
  (await env.DB.prepare(
    `SELECT 1 FROM devices d JOIN products p ON p.id = d.product_id
     WHERE d.id = ? AND d.enabled = 1 AND p.id = ? AND p.tenant_id = ? AND p.frozen_at IS NULL`,
  )
    .bind(deviceId, spec.productId, spec.tenantId)
    .first()) !== null

/**
 * Notes in the device's history that the download began or completed, once an attempt and package, however often it
 * resumes. Each part shows that the device is connected. Or that it found no file: then the task looks before it sends
 * another notice.
 */
export function noteDownload(
  task: TaskContext,
  deviceId: string,
  packageIndex: number,
  what: 'began' | 'completed' | 'missing',
): void {
  const row = task.storage.readRow(deviceId)
  const pkg = task.spec.packages[packageIndex]
  if (!row || !pkg) return
  const params: Params = pkg.sourceVersion === null ? {} : { sourceVersion: pkg.sourceVersion }
  if (what === 'missing') {
    forgetLooks(task)
    changeStored(task, deviceId, { type: 'seen' }, { code: 'download_missing', params, always: true })
    task.save()
    return
  }
  const download = `${what} ${packageIndex}`
  const code = row.upgrade.downloads.includes(download) ? 'download_resumed' : (`download_${what}` as const)
  if (changeStored(task, deviceId, { type: 'fetched', download }, { code, params })) task.save()
}
