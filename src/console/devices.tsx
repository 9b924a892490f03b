import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import { audit } from '../audit/audit.ts'
import { admits } from '../auth/middleware.ts'
import { openDb } from '../db/client.ts'
import type { Device, DeviceModule } from '../devices/device.ts'
import type { DeviceListFilter } from '../devices/filter.ts'
import { readRejections } from '../devices/read-rejections.ts'
import { activeUpgrades, endedUpgrades, findDevice, listDevices, modulesOf } from '../devices/store.ts'
import { forbidden, notFound } from '../errors.ts'
import { page } from '../openapi.ts'
import type { Product } from '../products/product.ts'
import { findProduct, listProducts } from '../products/store.ts'
import { iso } from '../time.ts'
import { type ConsoleEnv, render, renderPart, useMay, usePage } from './page.tsx'
import { Card, Dialog, DialogEnd, Field, NextPage, StateBadge, Table, Time, withoutEmpty } from './parts.tsx'

const PAGE_SIZE = 50
const MAX_PRODUCTS = 200
const MAX_UPGRADES = 20

type Filter = Record<'productId' | 'search' | 'version' | 'tag' | 'online', string | undefined>

export const devicePages = new Hono<ConsoleEnv>()
  .get('/devices', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const { productId, search, version, tag, online, cursor } = c.req.query()
    const filter: Filter = { productId, search, version, tag, online }
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
      ...active.map((row) => ({ ...row, status: null, description: null, finishedAt: null })),
      ...ended.slice(0, MAX_UPGRADES),
    ]
    const all = { device, modules: modules.get(device.id) ?? [], upgrades, rejections, product }
    return render(c, device.name ?? device.number, <DevicePage {...all} />)
  })
  .post('/devices/:id/token', async (c) => {
    // What lets a device in is shown on request only, and that it was stands in the log.
    if (!admits('operator', c.var.principal.role)) throw forbidden('This takes the role operator.')
    const device = await findDevice(openDb(c.env.DB), c.var.principal.tenantId!, c.req.param('id'))
    if (!device) throw notFound('device')
    await audit(c, { action: 'device.reveal_token', target: device.id })
    return renderPart(c, <code>{device.accessToken}</code>)
  })

const toListFilter = ({ online, ...filter }: Filter): DeviceListFilter => ({
  ...withoutEmpty(filter),
  ...((online === 'true' || online === 'false') && { online: online === 'true' }),
})

interface ListProps {
  devices: Device[]
  modules: Map<string, DeviceModule[]>
  products: Product[]
  filter: Filter
  cursor: string | null
}

const DeviceList: FC<ListProps> = ({ devices, modules, products, filter, cursor }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const names = new Map(products.map(({ id, name }) => [id, name]))
  return (
    <>
      <div class="top">
        <h1>{t('nav.devices')}</h1>
        {mayWrite && products.length > 0 && (
          <div class="row">
            <button type="button" data-opens="#import">
              {t('device.import')}
            </button>
            <button type="button" class="main" data-opens="#new-device">
              {t('device.add')}
            </button>
          </div>
        )}
      </div>
      <Card>
        <form class="row" method="get" action="/devices">
          <Field label={t('page.search')}>
            <input name="search" value={filter.search} maxlength={128} placeholder={t('device.searchHint')} />
          </Field>
          <Field label={t('product.one')}>
            <ProductChoice products={products} chosen={filter.productId} withAll />
          </Field>
          <Field label={t('device.version')}>
            <input name="version" value={filter.version} maxlength={64} size={10} />
          </Field>
          <Field label={t('device.tag')}>
            <input name="tag" value={filter.tag} maxlength={64} size={10} />
          </Field>
          <Field label={t('device.online')}>
            <select name="online">
              <option value="">{t('page.all')}</option>
              <option value="true" selected={filter.online === 'true'}>
                {t('device.isOnline')}
              </option>
              <option value="false" selected={filter.online === 'false'}>
                {t('device.isOffline')}
              </option>
            </select>
          </Field>
          <button type="submit">{t('page.filter')}</button>
        </form>
      </Card>
      <Card>
        <Table
          heads={[
            t('device.number'),
            t('page.name'),
            t('product.one'),
            t('device.version'),
            t('device.online'),
            t('device.tags'),
          ]}
          rows={devices.map((device) => (
            <tr>
              <td>
                <a href={`/devices/${device.id}`}>{device.number}</a>{' '}
                {!device.enabled && <span class="badge bad">{t('device.disabled')}</span>}
              </td>
              <td>{device.name}</td>
              <td>{names.get(device.productId)}</td>
              <td>
                {(modules.get(device.id) ?? [])
                  .map(({ module, version }) => (module === 'default' ? version : `${module} ${version}`))
                  .join(', ')}
              </td>
              <td>
                <Online of={device.online} />
              </td>
              <td>{device.tags.join(', ')}</td>
            </tr>
          ))}
        />
        <NextPage path="/devices" query={filter} cursor={cursor} />
      </Card>
      {mayWrite && <NewDevice products={products} chosen={filter.productId} />}
      {mayWrite && <Import products={products} chosen={filter.productId} />}
    </>
  )
}

export const ProductChoice: FC<{ products: Product[]; chosen?: string | undefined; withAll?: boolean }> = ({
  products,
  chosen,
  withAll,
}) => {
  const { t } = usePage()
  return (
    <select name="productId" required={!withAll}>
      {withAll && <option value="">{t('page.all')}</option>}
      {products.map(({ id, name }) => (
        <option value={id} selected={id === chosen}>
          {name}
        </option>
      ))}
    </select>
  )
}

const Online: FC<{ of: boolean | null }> = ({ of }) => {
  const { t } = usePage()
  if (of === null) return <span class="badge">{t('device.isUnknown')}</span>
  return of ? (
    <span class="badge good">{t('device.isOnline')}</span>
  ) : (
    <span class="badge">{t('device.isOffline')}</span>
  )
}

const NewDevice: FC<{ products: Product[]; chosen: string | undefined }> = ({ products, chosen }) => {
  const { t } = usePage()
  return (
    <Dialog id="new-device" title={t('device.add')}>
      <form data-api="POST /api/v1/devices" data-then="/devices/{id}">
        <Field label={t('product.one')}>
          <ProductChoice products={products} chosen={chosen} />
        </Field>
        <Field label={t('device.number')}>
          <input name="number" required maxlength={64} />
        </Field>
        <Field label={t('page.name')} hint={t('page.optional')}>
          <input name="name" maxlength={128} />
        </Field>
        <Field label={t('device.token')} hint={t('device.tokenHint')}>
          <input name="accessToken" maxlength={64} pattern="[A-Za-z0-9_\-]{1,64}" />
        </Field>
        <DialogEnd action={t('page.save')} />
      </form>
    </Dialog>
  )
}

/** First a trial says which rows would be rejected and why; then the same file is imported. */
const Import: FC<{ products: Product[]; chosen: string | undefined }> = ({ products, chosen }) => {
  const { t } = usePage()
  return (
    <Dialog id="import" title={t('device.import')}>
      <form
        data-import="/api/v1/devices/import"
        data-summary={t('device.importSummary')}
        data-line={t('device.importLine')}
        data-done={t('device.importDone')}
      >
        <Field label={t('product.one')}>
          <ProductChoice products={products} chosen={chosen} />
        </Field>
        <Field label={t('device.csv')} hint={t('device.csvHint')}>
          <input type="file" name="file" accept=".csv,text/csv" required />
        </Field>
        <div data-preview role="status" />
        <p class="fault" data-fault role="alert" />
        <div class="buttons">
          <button type="button" data-closes>
            {t('page.cancel')}
          </button>
          <button type="submit" value="trial">
            {t('device.importCheck')}
          </button>
          <button type="submit" value="import" class="main" disabled>
            {t('device.importNow')}
          </button>
        </div>
      </form>
    </Dialog>
  )
}

interface UpgradeRow {
  taskId: string
  taskName: string
  module: string
  fromVersion: string | null
  targetVersion: string
  status: 'success' | 'failure' | 'cancelled' | null
  description: string | null
  finishedAt: number | null
}

interface DeviceProps {
  device: Device
  modules: DeviceModule[]
  upgrades: UpgradeRow[]
  rejections: { total: number; items: { at: number; topic: string; payload: string; reason: string }[] }
  product: Product | undefined
}

const DevicePage: FC<DeviceProps> = ({ device, modules, upgrades, rejections, product }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const path = `/api/v1/devices/${device.id}`
  return (
    <>
      <div class="top">
        <h1>
          {device.name ?? device.number} <Online of={device.online} />{' '}
          {!device.enabled && <span class="badge bad">{t('device.disabled')}</span>}
        </h1>
        {mayWrite && (
          <div class="row">
            <button type="button" data-opens="#edit-device">
              {t('page.edit')}
            </button>
            <button
              type="button"
              data-api={`PATCH ${path}`}
              data-body={JSON.stringify({ enabled: !device.enabled })}
              data-confirm={t(device.enabled ? 'device.disableAsk' : 'device.enableAsk', {
                number: device.number,
              })}
            >
              {t(device.enabled ? 'device.disable' : 'device.enable')}
            </button>
          </div>
        )}
      </div>
      <div class="columns">
        <Card>
          <dl>
            <dt>{t('device.number')}</dt>
            <dd>{device.number}</dd>
            <dt>{t('product.one')}</dt>
            <dd>
              <a href={`/products/${device.productId}`}>{product?.name ?? device.productId}</a>
            </dd>
            <dt>{t('device.tags')}</dt>
            <dd>{device.tags.join(', ') || '–'}</dd>
            <dt>{t('device.lastSeen')}</dt>
            <dd>
              <Time at={iso(device.lastSeenAt)} />
            </dd>
            {mayWrite && (
              <>
                <dt>{t('device.token')}</dt>
                <dd class="row" id="token">
                  <button
                    type="button"
                    class="plain"
                    hx-post={`/devices/${device.id}/token`}
                    hx-target="#token"
                  >
                    {t('device.showToken')}
                  </button>
                </dd>
              </>
            )}
          </dl>
          {mayWrite && device.passwordHash === null && (
            <p>
              <button
                type="button"
                class="danger"
                data-api={`POST ${path}/rotate-token`}
                data-confirm={t('device.rotateAsk')}
                data-shows="accessToken"
                data-shows-in="#rotated"
              >
                {t('device.rotate')}
              </button>
              <span id="rotated" hidden>
                {' '}
                <code data-secret />
              </span>
            </p>
          )}
        </Card>
        <Card title={t('device.modules')}>
          <Table
            heads={[t('device.module'), t('device.version'), t('page.updated')]}
            rows={modules.map(({ module, version, reportedAt, rolledBack }) => (
              <tr>
                <td>{module}</td>
                <td>
                  {version} {rolledBack !== null && <span class="badge bad">{rolledBack}</span>}
                </td>
                <td>
                  <Time at={iso(reportedAt)} />
                </td>
              </tr>
            ))}
          />
        </Card>
      </div>
      <Card title={t('device.upgrades')}>
        <Table
          heads={[
            t('task.one'),
            t('task.from'),
            t('task.to'),
            t('page.status'),
            t('task.detail'),
            t('page.updated'),
          ]}
          rows={upgrades.map(
            ({ taskId, taskName, fromVersion, targetVersion, status, description, finishedAt }) => (
              <tr>
                <td>
                  <a href={`/tasks/${taskId}/devices/${device.id}`}>{taskName}</a>
                </td>
                <td>{fromVersion ?? '–'}</td>
                <td>{targetVersion}</td>
                <td>
                  {status ? <StateBadge of={status} /> : <span class="badge busy">{t('device.active')}</span>}
                </td>
                <td>{description}</td>
                <td>
                  <Time at={iso(finishedAt)} />
                </td>
              </tr>
            ),
          )}
        />
      </Card>
      <Card title={t('device.rejections', { count: rejections.total })}>
        <Table
          heads={[t('page.time'), t('device.topic'), t('device.payload'), t('device.reason')]}
          rows={rejections.items.map(({ at, topic, payload, reason }) => (
            <tr>
              <td class="narrow">
                <Time at={iso(at)} />
              </td>
              <td>
                <code>{topic}</code>
              </td>
              <td>
                <pre tabindex={0}>{payload}</pre>
              </td>
              <td>{reason}</td>
            </tr>
          ))}
        />
      </Card>
      {mayWrite && (
        <Dialog id="edit-device" title={t('page.edit')}>
          <form data-api={`PATCH ${path}`}>
            <Field label={t('page.name')} hint={t('page.optional')}>
              <input name="name" maxlength={128} value={device.name ?? ''} data-empty="null" />
            </Field>
            <Field label={t('device.tags')} hint={t('device.tagsHint')}>
              <input name="tags" value={device.tags.join(' ')} data-type="lines" data-empty="list" />
            </Field>
            <DialogEnd action={t('page.save')} />
          </form>
        </Dialog>
      )}
    </>
  )
}
