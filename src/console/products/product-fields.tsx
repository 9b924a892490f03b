import type { FC } from 'hono/jsx'
import type { Product } from '../../products/product.ts'
import { usePage } from '../layout/page.tsx'
import { Field } from '../layout/parts.tsx'

/** The fields of a new product, or of one that is edited. */
export const ProductFields: FC<{ product?: Product }> = ({ product }) => {
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
