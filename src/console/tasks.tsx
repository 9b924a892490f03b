import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import { isFromOwnPage } from '../auth/session.ts'
import { openDb } from '../db/client.ts'
import { forbidden, notFound } from '../errors.ts'
import { taskExists } from '../tasks/store.ts'
import type { TaskCounts } from '../tasks/task.ts'
import type { Sample } from '../tasks/task-journal.ts'
import { taskStub } from '../tasks/task-stub.ts'
import type { DevicePage, DeviceView, TaskView } from '../tasks/task-view.ts'
import type { UpgradeStatus } from '../tasks/upgrade.ts'
import { ProgressChart } from './chart.tsx'
import { type ConsoleEnv, render, renderPart, useMay, usePage } from './page.tsx'
import { Card, Field, ShareBar, StateBadge, Table, TaskBadge, Time, withoutEmpty } from './parts.tsx'

const PAGE_SIZE = 50
const STATES = ['pending', 'pushed', 'upgrading', 'success', 'failure', 'cancelled'] as const

interface Filter {
  status: UpgradeStatus | undefined
  search: string | undefined
  cursor: string | undefined
}

const readFilter = (query: Record<string, string>): Filter => ({
  status: STATES.find((state) => state === query.status),
  search: query.search?.slice(0, 64) || undefined,
  cursor: query.cursor?.slice(0, 64) || undefined,
})

async function taskOf(env: ConsoleEnv['Bindings'], tenantId: string, id: string) {
  if (!(await taskExists(openDb(env.DB), tenantId, id))) throw notFound('task')
  return taskStub(env, id)
}

const readDevices = async (task: Awaited<ReturnType<typeof taskOf>>, { status, search, cursor }: Filter) =>
  (await task.devices({ status, search, after: cursor ?? '', limit: PAGE_SIZE })) as DevicePage

export const taskPages = new Hono<ConsoleEnv>()
  .get('/tasks/:id', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const filter = readFilter(c.req.query())
    const [view, devices] = await Promise.all([task.view(), readDevices(task, filter)])
    return render(c, view.name, <TaskPage task={view as TaskView} devices={devices} filter={filter} />)
  })
  .get('/tasks/:id/devices', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const filter = readFilter(c.req.query())
    const devices = await readDevices(task, filter)
    return renderPart(c, <DeviceTable taskId={c.req.param('id')} devices={devices} filter={filter} />)
  })
  .get('/tasks/:id/state', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    return renderPart(c, <TaskState task={(await task.view()) as TaskView} />)
  })
  .get('/tasks/:id/charts', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const [view, samples] = await Promise.all([task.view(), task.progress()])
    return renderPart(c, <Charts task={view as TaskView} samples={samples as Sample[]} />)
  })
  .get('/tasks/:id/live', async (c) => {
    if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    return task.fetch(c.req.raw)
  })
  .get('/tasks/:id/devices/:deviceId', async (c) => {
    const task = await taskOf(c.env, c.var.principal.tenantId!, c.req.param('id'))
    const [view, device] = await Promise.all([task.view(), task.device(c.req.param('deviceId'))])
    if (!device) throw notFound('device')
    return render(c, device.number, <TaskDevicePage task={view as TaskView} device={device as DeviceView} />)
  })

const TaskPage: FC<{ task: TaskView; devices: DevicePage; filter: Filter }> = ({ task, devices, filter }) => {
  const { t } = usePage()
  return (
    <div data-live={`/tasks/${task.id}/live`}>
      <p>
        {task.packageIds.map((id) => (
          <a href={`/packages/${id}`}>{t('nav.firmware')}</a>
        ))}{' '}
        / {task.name}
      </p>
      <div id="state" hx-get={`/tasks/${task.id}/state`} hx-trigger="refresh" data-follows>
        <TaskState task={task} />
      </div>
      <Cards task={task} filter={filter} />
      <div hx-get={`/tasks/${task.id}/charts`} hx-trigger="load, every 60s" class="columns">
        …
      </div>
      <Card title={t('task.devices')}>
        <form
          class="row"
          hx-get={`/tasks/${task.id}/devices`}
          hx-target="#devices"
          hx-trigger="submit, input delay:300ms"
          id="device-filter"
        >
          <Field label={t('page.search')}>
            <input name="search" value={filter.search} maxlength={64} placeholder={t('device.searchHint')} />
          </Field>
          <Field label={t('page.status')}>
            <select name="status">
              <option value="">{t('page.all')}</option>
              {STATES.map((state) => (
                <option value={state} selected={state === filter.status}>
                  {t(`state.${state}`)}
                </option>
              ))}
            </select>
          </Field>
          <a class="button" href={`/api/v1/tasks/${task.id}/report.csv`} download>
            {t('task.csv')}
          </a>
        </form>
        <div
          id="devices"
          hx-get={`/tasks/${task.id}/devices`}
          hx-include="#device-filter"
          hx-trigger="refresh throttle:2s"
          data-follows
        >
          <DeviceTable taskId={task.id} devices={devices} filter={filter} />
        </div>
      </Card>
    </div>
  )
}

const Cards: FC<{ task: TaskView; filter: Filter }> = ({ task, filter }) => {
  const { t } = usePage()
  const all = ['total', ...STATES] as const
  return (
    <ul class="cards">
      {all.map((name) => (
        <li>
          <button
            type="button"
            class="card"
            aria-pressed={String((filter.status ?? 'total') === name)}
            data-picks="#device-filter select"
            data-value={name === 'total' ? '' : name}
          >
            <span class="figure" data-figure={`counts.${name}`}>
              {task.counts[name as keyof TaskCounts]}
            </span>
            {t(`state.${name}`)}
          </button>
        </li>
      ))}
    </ul>
  )
}

const TaskState: FC<{ task: TaskView }> = ({ task }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const path = `/api/v1/tasks/${task.id}`
  const isOver = task.status === 'finished' || task.status === 'cancelled'
  return (
    <>
      <div class="top">
        <h1>
          {task.name} <TaskBadge of={task.status} />
        </h1>
        {mayWrite && (
          <div class="row">
            {task.status === 'paused' ? (
              <button
                type="button"
                data-api={`POST ${path}/resume`}
                data-confirm={t('task.resumeAsk')}
                data-then="#state"
              >
                {t('task.resume')}
              </button>
            ) : (
              !isOver && (
                <button
                  type="button"
                  data-api={`POST ${path}/pause`}
                  data-confirm={t('task.pauseAsk')}
                  data-then="#state"
                >
                  {t('task.pause')}
                </button>
              )
            )}
            {task.status !== 'cancelled' && task.counts.failure > 0 && (
              <button
                type="button"
                data-api={`POST ${path}/retry`}
                data-confirm={t('task.retryAsk', { count: task.counts.failure })}
                data-then="#state"
              >
                {t('task.retry')}
              </button>
            )}
            {!isOver && (
              <button
                type="button"
                class="danger"
                data-api={`POST ${path}/cancel`}
                data-confirm={t('task.cancelAsk', {
                  count: task.counts.pending + task.counts.pushed + task.counts.upgrading,
                })}
                data-then="#state"
              >
                {t('task.cancel')}
              </button>
            )}
          </div>
        )}
      </div>
      {task.pausedReason !== null && <p class="fault">{task.pausedReason}</p>}
      {task.waitingFor !== null && task.pausedReason === null && <p class="quiet">{task.waitingFor}</p>}
      <p class="quiet">
        {t('task.to')} {task.targetVersion} · {t('task.start')} <Time at={task.startAt} />
        {task.endAt !== null && (
          <>
            {' '}
            · {t('task.endAt')} <Time at={task.endAt} />
          </>
        )}
      </p>
    </>
  )
}

const Charts: FC<{ task: TaskView; samples: Sample[] }> = ({ task, samples }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const failed = task.failures.reduce((sum, { count }) => sum + count, 0)
  const openWave = task.waves.findLastIndex(({ openedAt }) => openedAt !== null)
  return (
    <>
      <Card title={t('task.progress')}>
        <ProgressChart samples={samples} total={task.counts.total} />
      </Card>
      <Card title={t('task.failures')}>
        {failed === 0 && <p class="quiet">{t('task.noFailures')}</p>}
        <ul class="shares">
          {task.failures.map(({ code, cause, description, count }) => (
            <li>
              <span>
                {code ?? cause} {description}
              </span>
              <ShareBar share={count / failed} label={`${description ?? cause}: ${count}`} />
              <span>{count}</span>
            </li>
          ))}
        </ul>
      </Card>
      {task.waves.length > 0 && (
        <Card title={t('task.waves')}>
          <Table
            heads={[
              '#',
              '%',
              t('nav.devices'),
              t('task.reached'),
              t('state.success'),
              t('state.failure'),
              t('task.opened'),
            ]}
            rows={task.waves.map((wave, index) => (
              <tr>
                <td>{index + 1}</td>
                <td>
                  {wave.percent} <span class="quiet">(≥ {task.policy.waves?.[index]?.successPercent} %)</span>
                </td>
                <td>{wave.devices}</td>
                <td>{wave.reached}</td>
                <td>{wave.succeeded}</td>
                <td>{wave.failed}</td>
                <td>
                  <Time at={wave.openedAt} />
                </td>
              </tr>
            ))}
          />
          {mayWrite && openWave >= 0 && openWave + 1 < task.waves.length && (
            <button
              type="button"
              data-api={`POST /api/v1/tasks/${task.id}/waves/next`}
              data-confirm={t('task.nextWaveAsk', { number: openWave + 2 })}
            >
              {t('task.nextWave')}
            </button>
          )}
        </Card>
      )}
    </>
  )
}

const DeviceTable: FC<{ taskId: string; devices: DevicePage; filter: Filter }> = ({
  taskId,
  devices,
  filter,
}) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const next = new URLSearchParams(withoutEmpty({ ...filter, cursor: devices.nextCursor ?? undefined }))
  return (
    <>
      <Table
        caption={t('task.devices')}
        heads={[
          t('device.number'),
          t('page.name'),
          t('task.from'),
          t('task.to'),
          t('task.progress'),
          t('page.updated'),
          t('page.status'),
          t('task.detail'),
          ...(mayWrite ? [t('page.actions')] : []),
        ]}
        rows={devices.items.map((device) => (
          <tr>
            <td>
              <a href={`/tasks/${taskId}/devices/${device.deviceId}`}>{device.number}</a>
            </td>
            <td>{device.name}</td>
            <td class="narrow">{device.fromVersion ?? '–'}</td>
            <td class="narrow">{device.targetVersion}</td>
            <td>
              <ShareBar share={Math.max(0, device.step ?? 0) / 100} label={`${device.step ?? 0} %`} />
            </td>
            <td class="narrow">
              <Time at={device.updatedAt} />
            </td>
            <td>
              <StateBadge of={device.status} />
            </td>
            <td>{device.description}</td>
            {mayWrite && (
              <td>
                <DeviceAction taskId={taskId} device={device} then="#devices" />
              </td>
            )}
          </tr>
        ))}
      />
      {devices.nextCursor !== null && (
        <p>
          <button type="button" hx-get={`/tasks/${taskId}/devices?${next}`} hx-target="#devices">
            {t('page.more')}
          </button>
        </p>
      )}
    </>
  )
}

const DeviceAction: FC<{
  taskId: string
  device: { deviceId: string; number: string; status: UpgradeStatus }
  then: string
}> = ({ taskId, device, then }) => {
  const { t } = usePage()
  const path = `/api/v1/tasks/${taskId}/devices/${device.deviceId}`
  const { number } = device
  if (device.status === 'success') return null
  return device.status === 'failure' || device.status === 'cancelled' ? (
    <button
      type="button"
      class="plain"
      data-api={`POST ${path}/retry`}
      data-confirm={t('task.retryOne', { number })}
      data-then={then}
    >
      {t('task.retry')}
    </button>
  ) : (
    <button
      type="button"
      class="plain"
      data-api={`POST ${path}/cancel`}
      data-confirm={t('task.cancelOne', { number })}
      data-then={then}
    >
      {t('task.cancel')}
    </button>
  )
}

const TaskDevicePage: FC<{ task: TaskView; device: DeviceView }> = ({ task, device }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  return (
    <>
      <p>
        <a href={`/tasks/${task.id}`}>{task.name}</a> /{' '}
        <a href={`/devices/${device.deviceId}`}>{device.number}</a>
      </p>
      <div class="top">
        <h1>
          {device.name ?? device.number} <StateBadge of={device.status} />
        </h1>
        {mayWrite && <DeviceAction taskId={task.id} device={device} then="" />}
      </div>
      {device.waitingFor !== null && <p>{t('task.waitsFor', { what: device.waitingFor })}</p>}
      <Card title={t('task.history')}>
        <Table
          heads={[t('page.time'), t('task.event'), t('task.detail'), t('page.status')]}
          rows={device.events.map(({ at, kind, detail, status }) => (
            <tr>
              <td class="narrow">
                <Time at={at} />
              </td>
              <td>{kind}</td>
              <td>{detail}</td>
              <td>{status && <StateBadge of={status} />}</td>
            </tr>
          ))}
        />
      </Card>
    </>
  )
}
