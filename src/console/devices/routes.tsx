import { Hono } from 'hono'
import { audit } from '../../audit/audit.ts'
import { requireRole } from '../../auth/middleware.ts'
import { notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import type { DeviceListFilter } from '../../devices/filter.ts'
import { readRejections } from '../../devices/read-rejections.ts'
import { activeUpgrades, endedUpgrades, findDevice, listDevices, modulesOf } from '../../devices/store.ts'
import { page } from '../../http/openapi.ts'
import { findProduct, listProducts } from '../../products/store.ts'
import { taskStub } from '../../tasks/api/task-stub.ts'
import { type ConsoleEnv, render, renderPart } from '../layout/page.tsx'
import { withoutEmpty } from '../layout/parts.tsx'
import { DeviceChoice } from './device-choice.tsx'
import { DeviceList, type Filter } from './device-list.tsx'
import { DevicePage } from './device-page.tsx'

const PAGE_SIZE = 50
const MAX_PRODUCTS = 200
const MAX_UPGRADES = 20
const MAX_MESSAGES = 20
/** Devices that a list to choose from shows at a time. */
const CHOICE_SIZE = 20
const MAX_SEARCH = 128

export const devicePages = new Hono<ConsoleEnv>()
  .get('/devices', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const { productId, search, version, tag, online, rolledBack, cursor } = c.req.query()
    const filter: Filter = { productId, search, version, tag, online, rolledBack }
    const [rows, products] = await Promise.all([
      listDevices(db, tenantId, toListFilter(filter), PAGE_SIZE, cursor),
      listProducts(db, tenantId, MAX_PRODUCTS),
    ])
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    const modules = await modulesOf(
      db,
      items.map(({ id }) => id),
    )
    const list = { devices: items, modules, products, filter, cursor: nextCursor }
    return render(c, 'nav.devices', <DeviceList {...list} />)
  })
  .get('/devices/choice', async (c) => {
    const db = openDb(c.env.DB)
    const { productId, search } = c.req.query()
    const filter = toListFilter({ productId, search: search?.slice(0, MAX_SEARCH) })
    const rows = await listDevices(db, c.var.principal.tenantId!, filter, CHOICE_SIZE)
    const devices = rows.slice(0, CHOICE_SIZE)
    const modules = await modulesOf(
      db,
      devices.map(({ id }) => id),
    )
    return renderPart(
      c,
      <DeviceChoice devices={devices} modules={modules} isAll={rows.length === devices.length} />,
    )
  })
  .get('/devices/:id', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const device = await findDevice(db, tenantId, c.req.param('id'))
    if (!device) throw notFound('device')
    const [modules, active, ended, rejections, product] = await Promise.all([
      modulesOf(db, [device.id]),
      activeUpgrades(db, tenantId, device.id),
      endedUpgrades(db, tenantId, device.id, MAX_UPGRADES),
      readRejections(c.env, db, device),
      findProduct(db, tenantId, device.productId),
    ])
    const upgrades = [
      ...active.map((row) => ({ ...row, status: null, description: null, because: null, finishedAt: null })),
      ...ended.slice(0, MAX_UPGRADES),
    ]
    const messages = await latestMessages(c.env, upgrades[0]?.taskId, device.id)
    const all = { device, modules: modules.get(device.id) ?? [], upgrades, messages, rejections, product }
    return render(c, device.name ?? device.number, <DevicePage {...all} />)
  })
  .post('/devices/:id/token', requireRole('operator'), async (c) => {
    // With its token anybody can act as the device: it is shown on request only, and the audit log records that.
    const device = await findDevice(openDb(c.env.DB), c.var.principal.tenantId!, c.req.param('id'))
    if (!device) throw notFound('device')
    await audit(c, { action: 'device.reveal_token', target: device.id })
    return renderPart(c, <code>{device.accessToken}</code>)
  })

/** The device's latest events in a task, newest first; none if it has no task. */
async function latestMessages(env: ConsoleEnv['Bindings'], taskId: string | undefined, deviceId: string) {
  const view = taskId === undefined ? null : await taskStub(env, taskId).device(deviceId)
  return (view?.events ?? []).slice(-MAX_MESSAGES).reverse()
}

const toListFilter = ({ online, rolledBack, ...filter }: Partial<Filter>): DeviceListFilter => ({
  ...withoutEmpty(filter),
  ...(rolledBack === 'true' && { rolledBack: true }),
  ...((online === 'true' || online === 'false') && { online: online === 'true' }),
})
