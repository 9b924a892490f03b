import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import { openDb } from '../db/client.ts'
import { notFound } from '../errors.ts'
import { page } from '../openapi.ts'
import { findPackage, listPackages, type Package } from '../packages/store.ts'
import type { Product } from '../products/product.ts'
import { listProducts } from '../products/store.ts'
import { listTasks, type TaskRow } from '../tasks/store.ts'
import { iso } from '../time.ts'
import { ProductChoice } from './devices.tsx'
import { NewTask } from './new-task.tsx'
import { type ConsoleEnv, render, useMay, usePage } from './page.tsx'
import { Card, CountsBar, Dialog, DialogEnd, Field, NextPage, Table, TaskBadge, Time } from './parts.tsx'

const PAGE_SIZE = 50
const MAX_PRODUCTS = 200

interface Filter {
  productId: string | undefined
  name: string | undefined
}

export const firmwarePages = new Hono<ConsoleEnv>()
  .get('/firmware', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const { productId, name, cursor } = c.req.query()
    const [rows, products] = await Promise.all([
      listPackages(
        db,
        tenantId,
        { productId: productId || undefined, name: name || undefined },
        PAGE_SIZE,
        cursor,
      ),
      listProducts(db, tenantId, MAX_PRODUCTS),
    ])
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    const list = { packages: items, products, filter: { productId, name }, cursor: nextCursor }
    return render(c, 'nav.firmware', <PackageList {...list} />)
  })
  .get('/packages/:id', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const pkg = await findPackage(db, { tenantId, packageId: c.req.param('id') })
    if (!pkg) throw notFound('package')
    const rows = await listTasks(db, tenantId, { packageId: pkg.id }, PAGE_SIZE, c.req.query('cursor'))
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    return render(c, pkg.name, <PackagePage pkg={pkg} tasks={items} cursor={nextCursor} />)
  })

const LOOKS = { draft: '', verifying: 'busy', ready: 'good', recalled: 'bad' }

const PackageBadge: FC<{ of: Package['state'] }> = ({ of }) => (
  <span class={`badge ${LOOKS[of]}`}>{usePage().t(`package.${of}`)}</span>
)

interface ListProps {
  packages: Package[]
  products: Product[]
  filter: Filter
  cursor: string | null
}

const PackageList: FC<ListProps> = ({ packages, products, filter, cursor }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const names = new Map(products.map(({ id, name }) => [id, name]))
  return (
    <>
      <div class="top">
        <h1>{t('nav.firmware')}</h1>
        {mayWrite && products.length > 0 && (
          <button type="button" class="main" data-opens="#new-package">
            {t('package.add')}
          </button>
        )}
      </div>
      <Card>
        <form class="row" method="get" action="/firmware">
          <Field label={t('product.one')}>
            <ProductChoice products={products} chosen={filter.productId} withAll />
          </Field>
          <Field label={t('page.name')}>
            <input name="name" value={filter.name} maxlength={128} />
          </Field>
          <button type="submit">{t('page.filter')}</button>
        </form>
      </Card>
      <Card>
        <Table
          heads={[
            t('page.name'),
            t('product.one'),
            t('device.module'),
            t('device.version'),
            t('package.kind'),
            t('page.status'),
            t('page.created'),
            t('page.actions'),
          ]}
          rows={packages.map((pkg) => (
            <tr>
              <td>{pkg.name}</td>
              <td>{names.get(pkg.productId)}</td>
              <td>{pkg.module}</td>
              <td>{pkg.version}</td>
              <td>
                {pkg.kind === 'diff' ? `${t('package.diff')} (${pkg.sourceVersion})` : t('package.full')}
              </td>
              <td>
                <PackageBadge of={pkg.state} />
              </td>
              <td class="narrow">
                <Time at={iso(pkg.createdAt)} />
              </td>
              <td>
                <a
                  href={`/packages/${pkg.id}`}
                  aria-label={`${t('package.view')}: ${pkg.name} ${pkg.version}`}
                >
                  {t('package.view')}
                </a>
              </td>
            </tr>
          ))}
        />
        <NextPage path="/firmware" query={{ ...filter }} cursor={cursor} />
      </Card>
      {mayWrite && <NewPackage products={products} chosen={filter.productId} />}
    </>
  )
}

const NewPackage: FC<{ products: Product[]; chosen: string | undefined }> = ({ products, chosen }) => {
  const { t } = usePage()
  return (
    <Dialog id="new-package" title={t('package.add')}>
      <form data-api="POST /api/v1/packages" data-upload="/api/v1/packages/{id}" data-then="/packages/{id}">
        <Field label={t('page.name')}>
          <input name="name" required maxlength={128} />
        </Field>
        <Field label={t('product.one')}>
          <ProductChoice products={products} chosen={chosen} />
        </Field>
        <div class="row">
          <Field label={t('device.module')}>
            <input name="module" required maxlength={64} value="default" />
          </Field>
          <Field label={t('device.version')}>
            <input name="version" required maxlength={64} />
          </Field>
        </div>
        <div class="row">
          <Field label={t('package.kind')}>
            <select name="kind" data-switches="kind">
              <option value="full">{t('package.full')}</option>
              <option value="diff">{t('package.diff')}</option>
            </select>
          </Field>
          <span data-of="kind" data-when="diff" hidden>
            <Field label={t('package.source')}>
              <input name="sourceVersion" maxlength={64} />
            </Field>
          </span>
          <Field label={t('package.signMethod')}>
            <select name="signMethod">
              <option>SHA256</option>
              <option>MD5</option>
            </select>
          </Field>
        </div>
        <Field label={t('package.file')} hint={t('package.fileHint')}>
          <input type="file" name="file" required />
        </Field>
        <progress value={0} max={1} hidden aria-label={t('package.progress')} />
        <Field label={t('page.description')} hint={t('page.optional')}>
          <textarea name="description" maxlength={1024} />
        </Field>
        <fieldset data-pairs="extData">
          <legend>{t('package.extData')}</legend>
          <template id="pair">
            <PairRow />
          </template>
          <button type="button" data-adds="#pair">
            {t('package.addRow')}
          </button>
        </fieldset>
        <DialogEnd action={t('page.save')} />
      </form>
    </Dialog>
  )
}

const PairRow: FC = () => {
  const { t } = usePage()
  return (
    <div class="row" data-pair>
      <Field label={t('package.key')}>
        <input maxlength={64} />
      </Field>
      <Field label={t('package.value')}>
        <input maxlength={2048} />
      </Field>
      <button type="button" data-removes="[data-pair]">
        {t('page.delete')}
      </button>
    </div>
  )
}

const PackagePage: FC<{ pkg: Package; tasks: TaskRow[]; cursor: string | null }> = ({
  pkg,
  tasks,
  cursor,
}) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const path = `/api/v1/packages/${pkg.id}`
  return (
    <>
      <div class="top">
        <h1>
          {pkg.name} {pkg.version} <PackageBadge of={pkg.state} />
        </h1>
        {mayWrite && (
          <div class="row">
            {pkg.state === 'draft' && (
              <button type="button" data-opens="#upload">
                {t('package.upload')}
              </button>
            )}
            {pkg.state === 'ready' && (
              <>
                <button
                  type="button"
                  class="danger"
                  data-api={`POST ${path}/recall`}
                  data-confirm={t('package.recallAsk')}
                >
                  {t('package.recall')}
                </button>
                <button type="button" class="main" data-opens="#new-task">
                  {t('task.add')}
                </button>
              </>
            )}
          </div>
        )}
      </div>
      {pkg.error !== null && <p class="fault">{pkg.error}</p>}
      <Card>
        <dl>
          <dt>{t('device.module')}</dt>
          <dd>{pkg.module}</dd>
          <dt>{t('package.kind')}</dt>
          <dd>{pkg.kind === 'diff' ? `${t('package.diff')} (${pkg.sourceVersion})` : t('package.full')}</dd>
          <dt>{t('package.file')}</dt>
          <dd>
            {pkg.filename ?? '–'}{' '}
            {pkg.size !== null && <span class="quiet">{t('package.bytes', { count: pkg.size })}</span>}
          </dd>
          <dt>{pkg.signMethod}</dt>
          <dd>
            <code>{pkg.sign ?? '–'}</code>
          </dd>
          <dt>{t('page.description')}</dt>
          <dd>{pkg.description ?? '–'}</dd>
          {pkg.extData && (
            <>
              <dt>{t('package.extData')}</dt>
              <dd>
                <pre tabindex={0}>{JSON.stringify(pkg.extData, null, 2)}</pre>
              </dd>
            </>
          )}
        </dl>
      </Card>
      <Card title={t('task.many')}>
        <Table
          heads={[t('page.name'), t('page.status'), t('task.progress'), t('task.start'), t('page.actions')]}
          rows={tasks.map(({ id, name, status, counts, startAt }) => (
            <tr>
              <td>{name}</td>
              <td>
                <TaskBadge of={status} />
              </td>
              <td>
                <CountsBar counts={counts} />
                <span class="quiet">
                  {counts.success} / {counts.total}
                </span>
              </td>
              <td class="narrow">
                <Time at={iso(startAt)} />
              </td>
              <td>
                <a href={`/tasks/${id}`} aria-label={`${t('package.view')}: ${name}`}>
                  {t('package.view')}
                </a>
              </td>
            </tr>
          ))}
        />
        <NextPage path={`/packages/${pkg.id}`} query={{}} cursor={cursor} />
      </Card>
      {mayWrite && pkg.state === 'draft' && (
        <Dialog id="upload" title={t('package.upload')}>
          <form data-upload={path}>
            <Field label={t('package.file')} hint={t('package.fileHint')}>
              <input type="file" name="file" required />
            </Field>
            <progress value={0} max={1} hidden aria-label={t('package.progress')} />
            <DialogEnd action={t('package.upload')} />
          </form>
        </Dialog>
      )}
      {mayWrite && pkg.state === 'ready' && <NewTask pkg={pkg} />}
    </>
  )
}
