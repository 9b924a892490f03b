import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import { openDb } from '../../db/client.ts'
import {
  countRolledBack,
  type RejectedDevice,
  readFigures,
  readRejected,
  readVersions,
  type VersionShare,
} from '../../fleet/store.ts'
import { hubStub } from '../../hub/hub.ts'
import { listBridges } from '../../hub/store.ts'
import { listProducts } from '../../products/store.ts'
import { listNewestTasks, type TaskRow } from '../../tasks/database/tasks.ts'
import { type ConsoleEnv, render, renderPart, usePage } from '../layout/page.tsx'
import { Card, CountsBar, ShareBar, TaskBadge, Time } from '../layout/parts.tsx'
import { phrase } from '../phrases.ts'

const MAX_TASKS = 20
const MAX_PRODUCTS = 50
const MAX_VERSIONS = 40
const MAX_REJECTED = 5
/** A rejected message needs attention for this long. */
const NEWS_MS = 24 * 3600_000

/** The page is sent at once; htmx then fetches the parts for which the whole fleet must be read. */
export const overviewRoutes = new Hono<ConsoleEnv>()
  .get('/', async (c) => {
    const tasks = await runningTasks(c.env.DB, c.var.principal.tenantId!)
    return render(c, 'nav.overview', <Overview tasks={tasks} />)
  })
  .get('/parts/tasks', async (c) =>
    renderPart(c, <RunningTasks tasks={await runningTasks(c.env.DB, c.var.principal.tenantId!)} />),
  )
  .get('/parts/figures', async (c) => {
    const { devices, online } = await readFigures(c.env.DB, c.var.principal.tenantId!)
    return renderPart(c, <Figures devices={devices} online={online} />)
  })
  .get('/parts/versions', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const [versions, products] = await Promise.all([
      readVersions(c.env.DB, tenantId, null, MAX_VERSIONS),
      listProducts(openDb(c.env.DB), tenantId, MAX_PRODUCTS),
    ])
    const names = new Map(products.map(({ id, name }) => [id, name]))
    return renderPart(c, <Versions versions={versions} names={names} />)
  })
  .get('/parts/attention', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const [stopped, rolledBack, rejected, bridges] = await Promise.all([
      listNewestTasks(openDb(c.env.DB), tenantId, { hasStopped: true }, MAX_TASKS),
      countRolledBack(c.env.DB, tenantId),
      readRejected(c.env.DB, tenantId, Date.now() - NEWS_MS, MAX_REJECTED),
      statusOfBridges(c.env, tenantId),
    ])
    return renderPart(
      c,
      <>
        <Attention stopped={stopped} rolledBack={rolledBack} rejected={rejected} bridges={bridges} />
        <Bridges bridges={bridges} />
      </>,
    )
  })

async function runningTasks(d1: D1Database, tenantId: string): Promise<TaskRow[]> {
  const db = openDb(d1)
  const [running, paused] = await Promise.all([
    listNewestTasks(db, tenantId, { status: 'running' }, MAX_TASKS),
    listNewestTasks(db, tenantId, { status: 'paused' }, MAX_TASKS),
  ])
  return [...running, ...paused]
}

interface BridgeStatus {
  name: string
  isAway: boolean
  /** All messages rejected so far, by reason; empty for a bridge that several tenants share. */
  rejected: Record<string, number>
}

async function statusOfBridges(env: ConsoleEnv['Bindings'], tenantId: string): Promise<BridgeStatus[]> {
  const bridges = await listBridges(env.DB, tenantId)
  return Promise.all(
    bridges.map(async ({ hub, name, isOwn }) => {
      const { connected, rejected } = await hubStub(env, hub).status()
      return { name, isAway: !connected, rejected: isOwn ? rejected : {} }
    }),
  )
}

const Overview: FC<{ tasks: TaskRow[] }> = ({ tasks }) => {
  const { t } = usePage()
  return (
    <>
      <h1>{t('nav.overview')}</h1>
      <ul class="cards" hx-get="/parts/figures" hx-trigger="load, refresh, every 60s">
        <Figures devices={null} online={null} />
      </ul>
      <div class="columns">
        <div>
          <Card title={t('overview.running')}>
            <div hx-get="/parts/tasks" hx-trigger="refresh, every 5s">
              <RunningTasks tasks={tasks} />
            </div>
          </Card>
          <Card title={t('overview.attention')}>
            <div hx-get="/parts/attention" hx-trigger="load, refresh, every 60s">
              …
            </div>
          </Card>
        </div>
        <Card title={t('overview.versions')}>
          <div hx-get="/parts/versions" hx-trigger="load, refresh, every 300s">
            …
          </div>
        </Card>
      </div>
    </>
  )
}

const Figures: FC<{ devices: number | null; online: number | null }> = ({ devices, online }) => {
  const { t } = usePage()
  return (
    <>
      <li class="card">
        <span class="figure">{devices ?? '…'}</span>
        <a href="/devices">{t('overview.devices')}</a>
      </li>
      <li class="card">
        <span class="figure">{online ?? '…'}</span>
        <a href="/devices?online=true">{t('overview.online')}</a>
      </li>
    </>
  )
}

const RunningTasks: FC<{ tasks: TaskRow[] }> = ({ tasks }) => {
  const { t } = usePage()
  if (tasks.length === 0) return <p class="quiet">{t('overview.noTasks')}</p>
  return (
    <>
      {tasks.map(({ id, name, status, counts }) => (
        <div class="task">
          <div class="top">
            <a href={`/tasks/${id}`}>{name}</a>
            <TaskBadge of={status} />
          </div>
          <CountsBar counts={counts} />
          <p class="quiet">
            {counts.success} / {counts.total}
          </p>
        </div>
      ))}
    </>
  )
}

const Versions: FC<{ versions: VersionShare[]; names: Map<string, string> }> = ({ versions, names }) => {
  const { t } = usePage()
  if (versions.length === 0) return <p class="quiet">{t('overview.noVersions')}</p>
  return (
    <>
      {[...Map.groupBy(versions, ({ productId }) => productId)].map(([productId, shares]) => {
        const total = shares.reduce((sum, { count }) => sum + count, 0)
        return (
          <>
            <h3>{names.get(productId) ?? productId}</h3>
            <ul class="shares">
              {shares.map(({ version, count }) => (
                <li>
                  <a href={`/devices?productId=${productId}&version=${encodeURIComponent(version)}`}>
                    {version}
                  </a>
                  <ShareBar share={count / total} label={`${version}: ${count}`} />
                  <span>{count}</span>
                </li>
              ))}
            </ul>
          </>
        )
      })}
    </>
  )
}

interface AttentionProps {
  stopped: TaskRow[]
  rolledBack: number
  rejected: RejectedDevice[]
  bridges: BridgeStatus[]
}

const Attention: FC<AttentionProps> = ({ stopped, rolledBack, rejected, bridges }) => {
  const { t, language } = usePage()
  const lines = [
    ...stopped.map(({ id, name, pausedReason }) => (
      <li>
        <a href={`/tasks/${id}`}>
          {t('overview.halted', { name, reason: phrase(pausedReason ?? '', language) })}
        </a>
      </li>
    )),
    ...(rolledBack > 0
      ? [
          <li>
            <a href="/devices?rolledBack=true">{t('overview.rolledBack', { count: rolledBack })}</a>
          </li>,
        ]
      : []),
    ...bridges
      .filter(({ isAway }) => isAway)
      .map(({ name }) => <li>{t('overview.bridgeAway', { name })}</li>),
    ...rejected.map(({ deviceId, number, at }) => (
      <li>
        <a href={`/devices/${deviceId}`}>{t('overview.rejected', { number })}</a> <Time at={iso(at)} />
      </li>
    )),
  ]
  return lines.length === 0 ? <p class="quiet">{t('overview.allWell')}</p> : <ul>{lines}</ul>
}

const Bridges: FC<{ bridges: BridgeStatus[] }> = ({ bridges }) => {
  const { t } = usePage()
  return (
    <ul class="bridges" aria-label={t('overview.bridges')}>
      {bridges.map(({ name, isAway, rejected }) => {
        const counts = Object.entries(rejected).map(([reason, count]) => `${reason} ${count}`)
        return (
          <li>
            {t('product.bridge')} {name}{' '}
            <span class={isAway ? 'badge bad' : 'badge good'}>
              {t(isAway ? 'device.isOffline' : 'device.isOnline')}
            </span>{' '}
            {counts.length > 0 && (
              <span class="quiet">{t('overview.bridgeRejected', { counts: counts.join(', ') })}</span>
            )}
          </li>
        )
      })}
    </ul>
  )
}
