import type { TaskContext } from './task-context.ts'

// Placeholder until links through the Worker exist.
export type DownloadAnswer = { state: 'ok'; storageKey: string } | { state: 'paused' | 'gone' }

export const openDownload = (
  _task: TaskContext,
  _deviceId: string,
  _packageId: string,
  _now: number,
): DownloadAnswer => ({ state: 'gone' })

export function noteDownload(
  _task: TaskContext,
  _deviceId: string,
  _packageId: string,
  _what: 'began' | 'completed',
  _now: number,
): void {}
