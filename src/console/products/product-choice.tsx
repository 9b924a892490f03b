import type { FC } from 'hono/jsx'
import type { Product } from '../../products/product.ts'
import { usePage } from '../layout/page.tsx'

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
