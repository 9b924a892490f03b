import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Product } from '../../products/product.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, NextPage, Table, Time } from '../layout/parts.tsx'
import { ProductFields } from './product-fields.tsx'

export const ProductList: FC<{ products: Product[]; cursor: string | null }> = ({ products, cursor }) => {
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
