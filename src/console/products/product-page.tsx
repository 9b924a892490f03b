import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { VersionShare } from '../../fleet/store.ts'
import type { Product } from '../../products/product.ts'
import type { SigningKey } from '../../signing/signing-key.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, ShareBar, Time } from '../layout/parts.tsx'
import { ProductFields } from './product-fields.tsx'
import { SigningCard } from './signing-card.tsx'

export const ProductPage: FC<{ product: Product; versions: VersionShare[]; keys: SigningKey[] }> = ({
  product,
  versions,
  keys,
}) => {
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
      <SigningCard product={product} keys={keys} />
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
