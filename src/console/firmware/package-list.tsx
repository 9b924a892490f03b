import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Package } from '../../packages/package.ts'
import type { Product } from '../../products/product.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Field, NextPage, Table, Time } from '../layout/parts.tsx'
import { ProductChoice } from '../products/product-choice.tsx'
import type { KeyChoice } from './file-fields.tsx'
import { NewPackage } from './new-package.tsx'
import { PackageBadge } from './package-badge.tsx'

interface Filter {
  productId: string | undefined
  name: string | undefined
}

interface Props {
  packages: Package[]
  products: Product[]
  keys: KeyChoice[]
  filter: Filter
  cursor: string | null
}

export const PackageList: FC<Props> = ({ packages, products, keys, filter, cursor }) => {
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
              <td>{names.get(pkg.productId) ?? pkg.productId}</td>
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
      {mayWrite && <NewPackage keys={keys} products={products} chosen={filter.productId} />}
    </>
  )
}
