import { Hono } from 'hono'
import { notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { modulesOf } from '../../devices/store.ts'
import { requireWebSocket } from '../../http/web-socket.ts'
import { taskStub } from '../../tasks/api/task-stub.ts'
import { findTask } from '../../tasks/database/tasks.ts'
import { readSummary, type Summary } from '../../tasks/object/archive.ts'
import { watchRequest } from '../../tasks/object/watchers.ts'
import { UPGRADE_STATES } from '../../tasks/rules/upgrade.ts'
import { type ConsoleEnv, render, renderPart } from '../layout/page.tsx'
import { ArchivedTask } from './archived-task.tsx'
import { Charts } from './task-charts.tsx'
import { TaskDevicePage } from './task-device.tsx'
import { type DeviceFilter, type Devices, DeviceTable } from './task-devices.tsx'
import { TaskPage } from './task-page.tsx'
import { TaskState } from './task-state.tsx'

const PAGE_SIZE = 50

const readFilter = (query: Record<string, string>): DeviceFilter => ({
  status: UPGRADE_STATES.find((state) => state === query.status),
  search: query.search?.slice(0, 64) || undefined,
  cursor: query.cursor?.slice(0, 64) || undefined,
})

/** The object of a task; null if the task is archived. */
async function findTaskOf(env: ConsoleEnv['Bindings'], tenantId: string, id: string) {
  const task = await findTask(env.DB, { id, tenantId })
  if (!task) throw notFound('task')
  return task.archivedAt === null ? taskStub(env, id) : null
}

async function taskOf(env: ConsoleEnv['Bindings'], tenantId: string, id: string) {
  const task = await findTaskOf(env, tenantId, id)
  if (!task) throw notFound('task')
  return task
}

async function summaryOf(env: ConsoleEnv['Bindings'], tenantId: string, id: string): Promise<Summary> {
  const summary = await readSummary(env.PACKAGES, { id, tenantId })
  if (!summary) throw notFound('task')
  return summary
}

async function readDevices(
  env: ConsoleEnv['Bindings'],
  task: Awaited<ReturnType<typeof taskOf>>,
  { status, search, cursor }: DeviceFilter,
): Promise<Devices> {
  const query = { status, search, after: cursor ?? '', limit: PAGE_SIZE }
  const { items, nextCursor } = await task.devices(query)
  const ids = items.map(({ deviceId }) => deviceId)
  return { items, nextCursor, modules: await modulesOf(openDb(env.DB), ids) }
}

export const taskPages = new Hono<ConsoleEnv>()
  .get('/tasks/:id', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const id = c.req.param('id')
    const task = await findTaskOf(c.env, tenantId, id)
    if (!task) {
      const { view, samples } = await summaryOf(c.env, tenantId, id)
      return render(c, view.name, <ArchivedTask task={view} samples={samples} />)
    }
    const filter = readFilter(c.req.query())
    const [view, devices] = await Promise.all([task.view(), readDevices(c.env, task, filter)])
    return render(c, view.name, <TaskPage task={view} devices={devices} filter={filter} />)
  })
  .get('/tasks/:id/devices', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const filter = readFilter(c.req.query())
    const devices = await readDevices(c.env, task, filter)
    return renderPart(c, <DeviceTable taskId={c.req.param('id')} devices={devices} filter={filter} />)
  })
  .get('/tasks/:id/state', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    return renderPart(c, <TaskState task={await task.view()} />)
  })
  .get('/tasks/:id/charts', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const [view, samples] = await Promise.all([task.view(), task.progress()])
    return renderPart(c, <Charts task={view} samples={samples} />)
  })
  .get('/tasks/:id/live', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    requireWebSocket(c)
    return task.fetch(watchRequest(c.var.principal.keyId))
  })
  .get('/tasks/:id/devices/:deviceId', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const [view, device] = await Promise.all([task.view(), task.device(c.req.param('deviceId'))])
    if (!device) throw notFound('device')
    return render(c, device.number, <TaskDevicePage task={view} device={device} />)
  })
