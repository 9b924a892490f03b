import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { requireRole, tenantOf } from '../../auth/middleware.ts'
import { AppError, conflict, invalid, notFound } from '../../common/errors.ts'
import { iso } from '../../common/time.ts'
import { openDb } from '../../db/client.ts'
import { cursorTo, listPage, placeOf } from '../../http/cursors.ts'
import { newIdFor } from '../../http/new-id.ts'
import { createRouter, json, jsonBody, listOf, problems, withKey } from '../../http/openapi.ts'
import type { AppEnv } from '../../http/principal.ts'
import { findTask, listTasks, type TaskRow } from '../database/tasks.ts'
import { readReport, readSummary, type Summary } from '../object/archive.ts'
import { reportCsv } from '../object/report-csv.ts'
import type { TaskSummary } from '../object/task-view.ts'
import { allowed } from '../steps/operator-calls.ts'
import { createTask } from './create-task.ts'
import { deleteTask } from './delete-task.ts'
import {
  newTaskAnswer,
  newTaskBody,
  retryAnswer,
  retryQuery,
  taskAnswer,
  taskChangesBody,
  taskDetail,
  taskDeviceAnswer,
  taskDeviceDetail,
  taskDeviceListQuery,
  taskDeviceParams,
  taskListQuery,
  taskParams,
  taskProgress,
  toNewTask,
} from './schemas.ts'
import { taskStub } from './task-stub.ts'

const base = { tags: ['tasks'], security: withKey }
const reads = { ...base, middleware: requireRole('viewer') }
const writes = { ...base, middleware: requireRole('operator') }
const ofTask = { request: { params: taskParams } } as const
const ofDevice = { request: { params: taskDeviceParams } } as const
const answersTask = { responses: { 200: json(taskDetail, 'The task as it is now'), ...problems } }

const refOf = (c: Context<AppEnv>, id: string) => ({ id, tenantId: tenantOf(c) })

/** The object of a task that the caller's tenant has; null if the task is archived. 404 for any other. */
async function findTaskOf(c: Context<AppEnv>, id: string) {
  const task = await findTask(c.env.DB, refOf(c, id))
  if (!task) throw notFound('task')
  return task.archivedAt === null ? taskStub(c.env, id) : null
}

/** The same, for a call that is about what an archived task no longer has: 410 for a look, 409 for a change. */
async function taskOf(c: Context<AppEnv>, id: string) {
  const task = await findTaskOf(c, id)
  if (!task) throw archivedError(c.req.method === 'GET' ? 410 : 409)
  return task
}

const archivedError = (status: number) =>
  new AppError(status, 'task.archived', 'The task is archived: its summary and its report are what is kept.')

async function summaryOf(c: Context<AppEnv>, id: string): Promise<Summary> {
  const summary = await readSummary(c.env.PACKAGES, refOf(c, id))
  if (!summary) throw archivedError(410)
  return summary
}

export const taskRoutes = createRouter()
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/tasks',
      request: { body: jsonBody(newTaskBody) },
      responses: { 201: json(newTaskAnswer, 'The new task'), ...problems },
    }),
    async (c) => {
      const id = await newIdFor(c, 'tsk')
      return c.json(await createTask(c.env, toNewTask(id, tenantOf(c), c.req.valid('json'))), 201)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/tasks',
      request: { query: taskListQuery },
      responses: {
        200: json(listOf(taskAnswer), 'Tasks, oldest first; counts may be 10 s old'),
        ...problems,
      },
    }),
    async (c) => {
      const { limit, cursor, ...filter } = c.req.valid('query')
      const rows = await listTasks(openDb(c.env.DB), tenantOf(c), filter, limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (row) => row.id)
      return c.json({ items: items.map(listed), nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({ ...reads, ...ofTask, ...answersTask, method: 'get', path: '/api/v1/tasks/{id}' }),
    async (c) => {
      const { id } = c.req.valid('param')
      const task = await findTaskOf(c, id)
      return c.json(task ? await task.view() : (await summaryOf(c, id)).view, 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...ofTask,
      middleware: requireRole('admin'),
      method: 'delete',
      path: '/api/v1/tasks/{id}',
      description:
        'Deletes a task that has ended and has no device upgrading any more, with all that is known of its devices in it. ' +
        'The audit log stays. May be repeated.',
      responses: { 204: { description: 'Deleted' }, ...problems },
    }),
    async (c) => {
      await deleteTask(c.env, refOf(c, c.req.valid('param').id))
      return c.body(null, 204)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...answersTask,
      method: 'patch',
      path: '/api/v1/tasks/{id}',
      request: { params: taskParams, body: jsonBody(taskChangesBody) },
    }),
    async (c) => {
      const task = await taskOf(c, c.req.valid('param').id)
      const changes = c.req.valid('json')
      const { status, startAt } = await task.view()
      if (status === 'finished' || status === 'cancelled') {
        throw conflict(`task.${status}`, `The task is ${status}.`)
      }
      if (changes.endAt != null && changes.endAt <= Math.max(Date.parse(startAt), Date.now())) {
        throw invalid([{ path: 'endAt', message: 'must be later than startAt and now' }])
      }
      return c.json(await task.patch(changes), 200)
    },
  )
  .openapi(
    createRoute({ ...writes, ...ofTask, ...answersTask, method: 'post', path: '/api/v1/tasks/{id}/pause' }),
    async (c) => {
      const task = await taskOf(c, c.req.valid('param').id)
      return c.json(allowed(await task.pause()), 200)
    },
  )
  .openapi(
    createRoute({ ...writes, ...ofTask, ...answersTask, method: 'post', path: '/api/v1/tasks/{id}/resume' }),
    async (c) => {
      const task = await taskOf(c, c.req.valid('param').id)
      return c.json(allowed(await task.resume()), 200)
    },
  )
  .openapi(
    createRoute({ ...writes, ...ofTask, ...answersTask, method: 'post', path: '/api/v1/tasks/{id}/cancel' }),
    async (c) => {
      const task = await taskOf(c, c.req.valid('param').id)
      return c.json(allowed(await task.cancel()), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...ofTask,
      ...answersTask,
      method: 'post',
      path: '/api/v1/tasks/{id}/waves/next',
      description: 'Opens the next wave, whatever became of the one before.',
    }),
    async (c) => {
      const task = await taskOf(c, c.req.valid('param').id)
      return c.json(allowed(await task.nextWave()), 200)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      ...ofTask,
      method: 'get',
      path: '/api/v1/tasks/{id}/progress',
      responses: {
        200: json(taskProgress, 'The counts over time: a minute apart, farther where there are many'),
        ...problems,
      },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const task = await findTaskOf(c, id)
      const samples = task ? await task.progress() : (await summaryOf(c, id)).samples
      return c.json({ items: samples.map(({ at, counts }) => ({ at: iso(at), counts })) }, 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/tasks/{id}/retry',
      request: { params: taskParams, query: retryQuery },
      responses: { 200: json(retryAnswer, 'How many were retried, and which were not'), ...problems },
    }),
    async (c) => {
      const task = await taskOf(c, c.req.valid('param').id)
      const includeCancelled = c.req.valid('query').include === 'cancelled'
      return c.json(allowed(await task.retry({ includeCancelled })), 200)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/tasks/{id}/devices',
      request: { params: taskParams, query: taskDeviceListQuery },
      responses: { 200: json(listOf(taskDeviceAnswer), 'Devices in the order of their ids'), ...problems },
    }),
    async (c) => {
      const { limit, cursor, ...filter } = c.req.valid('query')
      const task = await taskOf(c, c.req.valid('param').id)
      const { items, nextCursor } = await task.devices({ ...filter, after: placeOf(c, cursor) ?? '', limit })
      return c.json({ items, nextCursor: cursorTo(c, nextCursor) }, 200)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      ...ofDevice,
      method: 'get',
      path: '/api/v1/tasks/{id}/devices/{deviceId}',
      responses: { 200: json(taskDeviceDetail, 'With its history in the task'), ...problems },
    }),
    async (c) => {
      const { id, deviceId } = c.req.valid('param')
      return c.json(await deviceOf(await taskOf(c, id), deviceId), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...ofDevice,
      method: 'post',
      path: '/api/v1/tasks/{id}/devices/{deviceId}/cancel',
      responses: { 200: json(taskDeviceDetail, 'The device as it is now'), ...problems },
    }),
    async (c) => {
      const { id, deviceId } = c.req.valid('param')
      const task = await taskOf(c, id)
      await deviceOf(task, deviceId)
      const refusal = await task.cancelDevices([deviceId], 'cancelled_by_operator')
      if (refusal) throw conflict(refusal.code, refusal.detail)
      return c.json(await deviceOf(task, deviceId), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...ofDevice,
      method: 'post',
      path: '/api/v1/tasks/{id}/devices/{deviceId}/retry',
      responses: { 200: json(retryAnswer, 'Whether it was retried, or why not'), ...problems },
    }),
    async (c) => {
      const { id, deviceId } = c.req.valid('param')
      const task = await taskOf(c, id)
      await deviceOf(task, deviceId)
      return c.json(allowed(await task.retry({ deviceId })), 200)
    },
  )

taskRoutes.openapi(
  createRoute({
    ...reads,
    ...ofTask,
    method: 'get',
    path: '/api/v1/tasks/{id}/report.csv',
    responses: {
      200: { description: 'One line a device', content: { 'text/csv': { schema: z.string() } } },
      ...problems,
    },
  }),
  async (c) => {
    const { id } = c.req.valid('param')
    const task = await findTaskOf(c, id)
    const body = task
      ? await reportCsv((after, limit) => task.devices({ after, limit }))
      : await readReport(c.env.PACKAGES, refOf(c, id))
    if (!body) throw archivedError(410)
    return new Response(body, {
      headers: {
        'content-type': 'text/csv; charset=utf-8',
        'content-disposition': `attachment; filename="${id}.csv"`,
      },
    }) as never
  },
)

async function deviceOf(task: ReturnType<typeof taskStub>, deviceId: string) {
  const device = await task.device(deviceId)
  if (!device) throw notFound('device')
  return device
}

function listed(row: TaskRow): TaskSummary {
  const { id, productId, packageIds, module, targetVersion, name, description } = row
  const { status, pausedReason, pausedBecause, policy, counts, selection } = row
  return {
    id,
    productId,
    packageIds,
    module,
    targetVersion,
    name,
    description,
    status,
    pausedReason,
    pausedBecause,
    startAt: iso(row.startAt),
    endAt: iso(row.endAt),
    devices: selection,
    policy,
    counts,
    createdAt: iso(row.createdAt),
    finishedAt: iso(row.finishedAt),
  }
}
