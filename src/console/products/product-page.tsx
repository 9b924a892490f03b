import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import { notFound } from '../../common/errors.ts'
import { iso } from '../../common/time.ts'
import { openDb } from '../../db/client.ts'
import { readVersions, type VersionShare } from '../../fleet/store.ts'
import { page } from '../../http/openapi.ts'
import type { Product } from '../../products/product.ts'
import { findProduct, listProducts } from '../../products/store.ts'
import { type ConsoleEnv, render, useMay, usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, Field, NextPage, ShareBar, Table, Time } from '../layout/parts.tsx'

const PAGE_SIZE = 50
const MAX_VERSIONS = 12

export const productPages = new Hono<ConsoleEnv>()
  .get('/products', async (c) => {
    const rows = await listProducts(
      openDb(c.env.DB),
      c.var.principal.tenantId!,
      PAGE_SIZE,
      c.req.query('cursor'),
    )
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    return render(c, 'nav.products', <ProductList products={items} cursor={nextCursor} />)
  })
  .get('/products/:id', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const product = await findProduct(openDb(c.env.DB), tenantId, c.req.param('id'))
    if (!product) throw notFound('product')
    const versions = await readVersions(c.env.DB, tenantId, product.id, MAX_VERSIONS)
    return render(c, product.name, <ProductPage product={product} versions={versions} />)
  })

const ProductList: FC<{ products: Product[]; cursor: string | null }> = ({ products, cursor }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  return (
    <>
      <div class="top">
        <h1>{t('nav.products')}</h1>
        {mayWrite && (
          <button type="button" class="main" data-opens="#new-product">
            {t('product.add')}
          </button>
        )}
      </div>
      <Card>
        <Table
          heads={[
            t('page.name'),
            t('page.description'),
            t('product.bridge'),
            t('page.status'),
            t('page.created'),
          ]}
          rows={products.map((product) => (
            <tr>
              <td>
                <a href={`/products/${product.id}`}>{product.name}</a>
              </td>
              <td>{product.description}</td>
              <td>{product.bridge}</td>
              <td>{product.frozenAt !== null && <span class="badge bad">{t('product.frozen')}</span>}</td>
              <td class="narrow">
                <Time at={iso(product.createdAt)} />
              </td>
            </tr>
          ))}
        />
        <NextPage path="/products" query={{}} cursor={cursor} />
      </Card>
      {mayWrite && (
        <Dialog id="new-product" title={t('product.add')}>
          <form data-api="POST /api/v1/products" data-then="/products/{id}">
            <ProductFields />
            <DialogEnd action={t('page.save')} />
          </form>
        </Dialog>
      )}
    </>
  )
}

const ProductFields: FC<{ product?: Product }> = ({ product }) => {
  const { t } = usePage()
  return (
    <>
      <Field label={t('page.name')}>
        <input name="name" required maxlength={128} value={product?.name} />
      </Field>
      <Field label={t('page.description')} hint={t('page.optional')}>
        <input name="description" maxlength={1024} value={product?.description ?? ''} />
      </Field>
      <Field label={t('product.bridge')} hint={t('product.bridgeHint')}>
        <input name="bridge" maxlength={64} value={product?.bridge ?? 'default'} />
      </Field>
      <label class="check">
        <input type="checkbox" name="notifyCancel" checked={product?.notifyCancel} />
        <span>{t('product.notifyCancel')}</span>
      </label>
    </>
  )
}

const ProductPage: FC<{ product: Product; versions: VersionShare[] }> = ({ product, versions }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const { id, name, frozenAt } = product
  const total = versions.reduce((sum, { count }) => sum + count, 0)
  const path = `/api/v1/products/${id}`
  return (
    <>
      <div class="top">
        <h1>
          {name} {frozenAt !== null && <span class="badge bad">{t('product.frozen')}</span>}
        </h1>
        {mayWrite && (
          <div class="row">
            <button type="button" data-opens="#edit-product">
              {t('page.edit')}
            </button>
            {frozenAt === null ? (
              <button
                type="button"
                class="danger"
                data-api={`POST ${path}/freeze`}
                data-confirm={t('product.freezeAsk', { name })}
              >
                {t('product.freeze')}
              </button>
            ) : (
              <button
                type="button"
                data-api={`POST ${path}/unfreeze`}
                data-confirm={t('product.unfreezeAsk', { name })}
              >
                {t('product.unfreeze')}
              </button>
            )}
          </div>
        )}
      </div>
      {frozenAt !== null && (
        <p class="fault">
          {t('product.frozenSince')} <Time at={iso(frozenAt)} />
        </p>
      )}
      <div class="columns">
        <Card>
          <dl>
            <dt>{t('page.description')}</dt>
            <dd>{product.description ?? '–'}</dd>
            <dt>{t('product.bridge')}</dt>
            <dd>{product.bridge}</dd>
            <dt>{t('page.created')}</dt>
            <dd>
              <Time at={iso(product.createdAt)} />
            </dd>
          </dl>
          <p class="row">
            <a href={`/devices?productId=${id}`}>{t('nav.devices')}</a>
            <a href={`/firmware?productId=${id}`}>{t('nav.firmware')}</a>
          </p>
        </Card>
        <Card title={t('overview.versions')}>
          {versions.length === 0 && <p class="quiet">{t('overview.noVersions')}</p>}
          <ul class="shares">
            {versions.map(({ version, count }) => (
              <li>
                <a href={`/devices?productId=${id}&version=${encodeURIComponent(version)}`}>{version}</a>
                <ShareBar share={count / total} label={`${version}: ${count}`} />
                <span>{count}</span>
              </li>
            ))}
          </ul>
        </Card>
      </div>
      {mayWrite && (
        <Dialog id="edit-product" title={t('page.edit')}>
          <form data-api={`PATCH ${path}`}>
            <ProductFields product={product} />
            <DialogEnd action={t('page.save')} />
          </form>
        </Dialog>
      )}
    </>
  )
}
