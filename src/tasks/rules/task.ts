import { z } from 'zod'
import type { NoticePackage } from '../../protocol/device.ts'
import { taskWindow } from './window.ts'

export type TaskStatus = 'scheduled' | 'running' | 'paused' | 'finished' | 'cancelled'

const percent = z.number().min(0).max(100)
/** Up to 30 days. */
const minutes = z.number().min(0).max(43_200)

export const DEFAULT_TOP_UP_MINUTES = 60

const wave = z.strictObject({
  /** Cumulative: of all devices of the task, this wave's and the earlier ones'. */
  percent: percent.gt(0, 'must be more than 0'),
  /** Of the wave's reached devices, how many must have succeeded before the next wave opens. */
  successPercent: percent.default(90),
  /** How long that must hold. */
  soakMinutes: minutes.default(0),
  /** A device whose notice found nobody for so long is made up for by one of a later wave. */
  topUpMinutes: minutes.default(DEFAULT_TOP_UP_MINUTES),
})

const waves = z
  .array(wave)
  .min(1)
  .max(20)
  .superRefine((list, ctx) => {
    const fault = (index: number, message: string) =>
      ctx.addIssue({ code: 'custom', path: [index, 'percent'], message })
    list.forEach(({ percent }, index) => {
      if (percent <= (list[index - 1]?.percent ?? 0)) fault(index, 'must be more than the wave before')
    })
    if (list.length > 0 && list.at(-1)!.percent !== 100) fault(list.length - 1, 'the last wave must be 100')
  })

export const haltOn = z.strictObject({
  /** Over this share of the reached and settled devices the task pauses itself. */
  failurePercent: percent,
  /** Not before so many have settled. */
  minFinished: z.number().int().min(1).max(1_000_000).default(1),
})

export const ratePerMinute = z.number().int().min(1).max(1_000_000)

export const deviceTimeoutMinutes = z.number().int().min(1).max(43_200)

const autoRetry = z.strictObject({
  times: z.number().int().min(0).max(10),
  /** Before the first one; doubles with each. */
  backoffMinutes: minutes.default(10),
  /** What is repeated: what can heal, unless said otherwise. */
  on: z
    .array(z.union([z.literal(['timeout', 'wrong_version']), z.literal([-1, -2, -3, -4])]))
    .min(1)
    .max(6)
    .optional(),
})

/** The rules of one task (src/tasks/README.md#policy). Unknown fields are refused: a rule that is not kept is worse than none. */
export const taskPolicy = z.strictObject({
  /** Notices a minute, evenly; re-sends are among them. */
  ratePerMinute: ratePerMinute.optional(),
  waves: waves.optional(),
  haltOn: haltOn.optional(),
  autoRetry: autoRetry.optional(),
  /** No notice outside it. */
  window: taskWindow.optional(),
  /** Takes in devices that join, or come to match, while the task runs. */
  dynamic: z.boolean().default(false),
  /** What to do if an older task holds the slot (src/protocol/README.md#slots). */
  onBusy: z.enum(['replace', 'wait', 'fail']).default('replace'),
  /** `progress`: 100 % is a Success; `version`: only the version report is (src/protocol/README.md#states). */
  confirm: z.enum(['progress', 'version']).default('progress'),
  deviceTimeoutMinutes: deviceTimeoutMinutes.default(60),
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
  /** The bucket's, when the task was created; undefined if the file was not there, or by an earlier release. */
  etag?: string | undefined
}

/** What a task is, fixed when it is created. */
export interface TaskSpec {
  id: string
  tenantId: string
  productId: string
  name: string
  description: string | null
  /** What all of its packages are for. */
  module: string
  targetVersion: string
  /** Differential ones and at most one full one; each device gets the one that fits it. */
  packages: TaskPackage[]
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
 * Orders tasks by newness, as text: the later created is the newer, whenever it starts (src/protocol/README.md#slots).
 * Two tasks never have the same rank.
 */
export const taskRank = ({ id, createdAt }: { id: string; createdAt: number }): string =>
  `${String(createdAt).padStart(14, '0')}.${id}`
