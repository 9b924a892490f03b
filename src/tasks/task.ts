import { z } from 'zod'
import type { NoticePackage } from '../messages/protocol.ts'

export type TaskStatus = 'scheduled' | 'running' | 'paused' | 'finished' | 'cancelled'

/** The rules of one task (API.md, tasks). Unknown fields are refused: a rule that is not kept is worse than none. */
export const taskPolicy = z.strictObject({
  /** What to do where an older task holds the slot (PROTOCOL.md, 5). */
  onBusy: z.enum(['replace', 'wait', 'fail']).default('replace'),
  /** `progress`: 100 % is a Success; `version`: only the version report is (PROTOCOL.md, 4). */
  confirm: z.enum(['progress', 'version']).default('progress'),
  deviceTimeoutMinutes: z.number().int().min(1).max(43_200).default(60),
  /** Notices sent again to a device that reports another version, before it is a Failure. */
  mismatchPushes: z.number().int().min(0).max(10).default(3),
  downloadTtlSeconds: z.number().int().min(1).max(604_800).optional(),
})
export type TaskPolicy = z.infer<typeof taskPolicy>

export interface DeviceFilter {
  versions?: string[] | undefined
  tags?: string[] | undefined
  search?: string | undefined
}

/** Which devices; a list itself is kept by the task's object, page by page. */
export type TaskSelection = { all: true } | { listed: number } | { filter: DeviceFilter }

/** The package as the task will send it: a ready package never changes, so the task keeps a copy. */
export interface TaskPackage extends NoticePackage {
  id: string
  storageKey: string
  /** The version that a differential package starts from; null for a full one. */
  sourceVersion: string | null
}

/** What a task is, fixed when it is created. */
export interface TaskSpec {
  id: string
  tenantId: string
  productId: string
  name: string
  description: string | null
  package: TaskPackage
  selection: TaskSelection
  policy: TaskPolicy
  startAt: number
  endAt: number | null
  createdAt: number
}

export interface TaskCounts {
  total: number
  pending: number
  pushed: number
  upgrading: number
  success: number
  failure: number
  cancelled: number
}

export const NO_COUNTS: TaskCounts = {
  total: 0,
  pending: 0,
  pushed: 0,
  upgrading: 0,
  success: 0,
  failure: 0,
  cancelled: 0,
}

/** Devices that the task still has something to do for. */
export const unfinished = (counts: TaskCounts) => counts.pending + counts.pushed + counts.upgrading

/**
 * Orders tasks by newness, as text: the later `startAt`, of equals the later created (PROTOCOL.md, 5). Two tasks
 * never have the same rank.
 */
export function taskRank(task: { id: string; startAt: number; createdAt: number }): string {
  const digits = (ms: number) => String(ms).padStart(14, '0')
  return `${digits(task.startAt)}.${digits(task.createdAt)}.${task.id}`
}
