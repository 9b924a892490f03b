import { z } from '@hono/zod-openapi'
import { description, label, listQuery, name, text } from '../../http/openapi.ts'
import { params, reasonAnswer } from '../../http/reason.ts'
import { deviceTimeoutMinutes, haltOn, ratePerMinute, taskPolicy } from '../rules/task.ts'
import { UPGRADE_STATES } from '../rules/upgrade.ts'
import type { NewTask } from './create-task.ts'

const MAX_LISTED_DEVICES = 100_000
const MAX_FILTER_VALUES = 100
const MAX_PACKAGES = 50
/** The platform's alarms know no time long after. */
const LATEST_TIME = Date.UTC(2100)

const time = z.iso
  .datetime({ offset: true, error: 'must be a time as ISO 8601, such as 2026-01-31T12:00:00Z' })
  .transform((value) => Date.parse(value))
  .refine((at) => at < LATEST_TIME, 'must be before the year 2100')

const listOfText = z
  .array(z.string().min(1).max(64))
  .min(1, 'must name at least one device')
  .max(MAX_LISTED_DEVICES, `must be at most ${MAX_LISTED_DEVICES} devices`)
const filterValues = z.array(label(64)).min(1).max(MAX_FILTER_VALUES)

const devices = z.union(
  [
    z.literal('all'),
    z.strictObject({ ids: listOfText }),
    z.strictObject({ numbers: listOfText }),
    z.strictObject({
      filter: z.strictObject({
        versions: filterValues.optional(),
        tags: filterValues.optional(),
        search: text(64).min(1).optional(),
      }),
    }),
  ],
  { error: 'must be "all", {ids}, {numbers} or {filter: {versions?, tags?, search?}}' },
)

export const newTaskBody = z
  .strictObject({
    packageId: z.string().min(1).max(64).optional(),
    packageIds: z
      .array(z.string().min(1).max(64))
      .min(1, 'must name a package')
      .max(MAX_PACKAGES, `must be at most ${MAX_PACKAGES} packages`)
      .optional(),
    name,
    description: description.nullish(),
    startAt: time.nullish(),
    endAt: time.nullish(),
    devices,
    policy: taskPolicy.prefault({}),
  })
  .refine((body) => (body.packageId === undefined) !== (body.packageIds === undefined), {
    path: ['packageId'],
    message: 'one of packageId and packageIds is required',
  })
  .refine((body) => !body.policy.dynamic || body.devices === 'all' || 'filter' in body.devices, {
    path: ['policy', 'dynamic'],
    message: 'must be false for listed devices: only a rule can take in more',
  })
  .openapi('NewTask')

export function toNewTask(id: string, tenantId: string, body: z.infer<typeof newTaskBody>): NewTask {
  const {
    packageId,
    packageIds,
    description = null,
    startAt = null,
    endAt = null,
    name,
    devices,
    policy,
  } = body
  return {
    id,
    tenantId,
    name,
    description,
    startAt,
    endAt,
    devices,
    policy,
    packageIds: packageIds ?? [packageId!],
  }
}

/** Null takes the rule away; there is always a device timeout. */
const ruleChanges = {
  ratePerMinute: ratePerMinute.nullish(),
  haltOn: haltOn.nullish(),
  deviceTimeoutMinutes: deviceTimeoutMinutes.optional(),
}

export const taskChangesBody = z
  .strictObject({
    name: name.optional(),
    description: description.nullish(),
    endAt: time.nullish(),
    ...ruleChanges,
    policy: z.strictObject(ruleChanges).optional(),
  })
  .transform(({ policy, ...changes }) => ({ ...changes, ...policy }))

const status = z.enum(['scheduled', 'running', 'paused', 'finished', 'cancelled'])
const deviceStatus = z.enum(UPGRADE_STATES)
const count = z.number().int()

export const taskAnswer = z
  .object({
    id: z.string(),
    productId: z.string(),
    packageIds: z.array(z.string()),
    module: z.string(),
    targetVersion: z.string(),
    name: z.string(),
    description: z.string().nullable(),
    status,
    pausedReason: z.string().nullable(),
    pausedBecause: reasonAnswer.nullable(),
    startAt: z.string(),
    endAt: z.string().nullable(),
    devices: z.union([
      z.object({ all: z.literal(true) }),
      z.object({ listed: count }),
      z.object({
        filter: z.object({
          versions: z.array(z.string()).optional(),
          tags: z.array(z.string()).optional(),
          search: z.string().optional(),
        }),
      }),
    ]),
    policy: z.looseObject({}),
    counts: z.object({
      total: count,
      pending: count,
      pushed: count,
      upgrading: count,
      success: count,
      failure: count,
      cancelled: count,
    }),
    createdAt: z.string(),
    finishedAt: z.string().nullable(),
  })
  .openapi('TaskSummary')

const reached = {
  reached: count.openapi({ description: 'Told while connected, or turned up since' }),
  succeeded: count.openapi({ description: 'Of these: done well, and seen since' }),
  failed: count.openapi({ description: 'Of these: Failure, gone, or rolled back' }),
  unseen: count.openapi({ description: 'Of these: said 100 %, and not seen since' }),
  gone: count.openapi({ description: 'Of the failed: silent and not connected' }),
}

export const taskDetail = taskAnswer
  .extend({
    ...reached,
    waves: z.array(
      z.object({
        percent: z.number().openapi({ description: 'Cumulative' }),
        devices: count,
        size: count.openapi({ description: 'So many are to be reached before the next wave opens' }),
        openedAt: z.string().nullable(),
        ...reached,
      }),
    ),
    rolledBack: count,
    failures: z.array(
      z.object({
        code: count.nullable(),
        cause: z.string(),
        description: z.string(),
        because: reasonAnswer.nullable(),
        count,
      }),
    ),
    waitingFor: z.string().nullable().openapi({ description: 'Why nothing is sent now' }),
    waiting: reasonAnswer.nullable(),
  })
  .openapi('Task')

export const taskWarning = z
  .object({ code: z.string(), message: z.string(), params: z.record(z.string(), z.unknown()) })
  .openapi('TaskWarning')

export const newTaskAnswer = taskDetail.extend({ warnings: z.array(taskWarning) }).openapi('CreatedTask')

export const taskProgress = z
  .object({
    items: z.array(z.object({ at: z.string(), counts: taskAnswer.shape.counts })),
  })
  .openapi('TaskProgress')

export const taskDeviceAnswer = z
  .object({
    deviceId: z.string(),
    number: z.string(),
    name: z.string().nullable(),
    module: z.string(),
    fromVersion: z.string().nullable(),
    targetVersion: z.string(),
    status: deviceStatus,
    step: count.nullable(),
    description: z.string().nullable(),
    because: reasonAnswer.nullable(),
    code: count.nullable().openapi({ description: 'The negative step by which the device said so' }),
    cause: z.string().nullable(),
    pushes: count,
    attempt: count,
    rolledBack: z.boolean(),
    updatedAt: z.string(),
  })
  .openapi('TaskDevice')

export const taskDeviceDetail = taskDeviceAnswer
  .extend({
    events: z.array(
      z.object({
        at: z.string(),
        code: z.string(),
        params,
        kind: z.string(),
        detail: z.string().nullable(),
        status: deviceStatus.nullable(),
      }),
    ),
    waitingFor: z.string().nullable(),
    waiting: reasonAnswer.nullable(),
  })
  .openapi('TaskDeviceDetail')

export const retryAnswer = z.object({
  retried: count,
  skipped: z.array(z.object({ code: z.string(), reason: z.string(), count })),
  more: z.literal(true).optional().openapi({ description: 'The same call again goes on with the rest' }),
})

export const taskListQuery = listQuery.extend({
  productId: text(64).optional(),
  packageId: text(64).optional(),
  status: status.optional(),
})

export const taskDeviceListQuery = listQuery.extend({
  status: deviceStatus.optional(),
  search: text(128).optional(),
})

export const retryQuery = z.object({ include: z.enum(['cancelled']).optional() })
export const taskParams = z.object({ id: z.string() })
export const taskDeviceParams = z.object({ id: z.string(), deviceId: z.string() })
