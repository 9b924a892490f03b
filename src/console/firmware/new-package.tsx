import type { FC } from 'hono/jsx'
import type { Product } from '../../products/product.ts'
import { MAX_COUNTER } from '../../protocol/firmware-signature.ts'
import { usePage } from '../layout/page.tsx'
import { Dialog, DialogEnd, Field } from '../layout/parts.tsx'
import { ProductChoice } from '../products/product-choice.tsx'
import { FileFields, type KeyChoice } from './file-fields.tsx'

interface Props {
  products: Product[]
  chosen: string | undefined
  keys: KeyChoice[]
}

export const NewPackage: FC<Props> = ({ products, chosen, keys }) => {
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
        <FileFields keys={keys} />
        {keys.length > 0 && (
          <Field label={t('package.counter')} hint={t('package.counterHint')}>
            <input name="securityCounter" type="number" min={0} max={MAX_COUNTER} step={1} value="0" />
          </Field>
        )}
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
        <input maxlength={8000} />
      </Field>
      <button type="button" data-removes="[data-pair]">
        {t('page.delete')}
      </button>
    </div>
  )
}
