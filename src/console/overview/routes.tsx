import { Hono } from 'hono'
import { openDb } from '../../db/client.ts'
import { countRolledBack, readFigures, readRejected, readVersions } from '../../fleet/store.ts'
import { hubStub } from '../../hub/hub.ts'
import { listBridges } from '../../hub/store.ts'
import { listProducts } from '../../products/store.ts'
import { listNewestTasks, type TaskRow } from '../../tasks/database/tasks.ts'
import { type ConsoleEnv, render, renderPart } from '../layout/page.tsx'
import {
  Attention,
  type BridgeStatus,
  Bridges,
  Figures,
  Overview,
  RunningTasks,
  Versions,
} from './overview-page.tsx'

const MAX_TASKS = 20
const MAX_PRODUCTS = 50
const MAX_VERSIONS = 40
const MAX_REJECTED = 5
/** A rejected message needs attention for this long. */
const NEWS_MS = 24 * 3600_000

/** The page is sent at once; htmx then fetches the parts for which the whole fleet must be read. */
export const overviewPages = new Hono<ConsoleEnv>()
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

async function statusOfBridges(env: ConsoleEnv['Bindings'], tenantId: string): Promise<BridgeStatus[]> {
  const bridges = await listBridges(env.DB, tenantId)
  return Promise.all(
    bridges.map(async ({ hub, name, isOwn }) => {
      const { connected, rejected } = await hubStub(env, hub).status()
      return { name, isAway: !connected, rejected: isOwn ? rejected : {} }
    }),
  )
}
