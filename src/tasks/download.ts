import { changeStored } from './change-device.ts'
import type { TaskContext } from './task-context.ts'
import type { HistoryEvent } from './task-storage.ts'

// A device downloads through the Worker: the task says whether it may, and keeps that it did.

export type DownloadAnswer =
  /** `size` in bytes, `sign` as the notice has it. */
  | { state: 'ok'; storageKey: string; size: number; sign: string; productId: string }
  /** For now: the task is paused, or its product frozen. */
  | { state: 'paused' }
  /** For good: cancelled, recalled, or never in the task. */
  | { state: 'gone' }

export function openDownload(
  { spec, run, storage }: TaskContext,
  deviceId: string,
  packageIndex: number,
): DownloadAnswer {
  const pkg = spec.packages[packageIndex]
  const row = storage.readRow(deviceId)
  if (!pkg || !row || run.recalled.includes(pkg.id)) return { state: 'gone' }
  if (run.status === 'cancelled' || row.upgrade.status === 'cancelled') return { state: 'gone' }
  if (run.status === 'paused') return { state: 'paused' }
  const { storageKey, size, sign } = pkg
  return { state: 'ok', storageKey, size, sign, productId: spec.productId }
}

/** Keeps in the device's history that it began, or has the last byte: once an attempt, however often it resumes. */
export function noteDownload(
  task: TaskContext,
  deviceId: string,
  packageIndex: number,
  what: 'began' | 'completed',
  now: number,
): void {
  const row = task.storage.readRow(deviceId)
  const pkg = task.spec.packages[packageIndex]
  if (!row || !pkg) return
  const kind = `download ${what}`
  const note = { kind, detail: pkg.sourceVersion && `from ${pkg.sourceVersion}` }
  changeStored(task, deviceId, { type: 'fetched' }, { ...note, always: !isNoted(row.events, kind) }, now)
  task.storage.writeRun(task.run)
}

/** Since the attempt began. */
function isNoted(events: HistoryEvent[], kind: string): boolean {
  const attempt = events.findLastIndex((event) => event.status === 'pending')
  return events.slice(attempt + 1).some((event) => event.kind === kind)
}
