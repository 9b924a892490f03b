import type { FC } from 'hono/jsx'
import type { Product } from '../../products/product.ts'
import { usePage } from '../layout/page.tsx'
import { Dialog, DialogEnd, Field } from '../layout/parts.tsx'
import { ProductChoice } from '../products/product-choice.tsx'

export const NewDevice: FC<{ products: Product[]; chosen: string | undefined }> = ({ products, chosen }) => {
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
          <input name="accessToken" minlength={16} maxlength={64} pattern="[A-Za-z0-9_\-]{16,64}" />
        </Field>
        <DialogEnd action={t('page.save')} />
      </form>
    </Dialog>
  )
}

/** Imports a CSV file in two steps: a trial says which rows would be rejected and why, then the file is imported. */
export const Import: FC<{ products: Product[]; chosen: string | undefined }> = ({ products, chosen }) => {
  const { t } = usePage()
  return (
    <Dialog id="import" title={t('device.import')}>
      <form
        data-import="/api/v1/devices/import"
        data-summary={t('device.importSummary')}
        data-line={t('device.importLine')}
        data-ignored={t('device.importIgnored')}
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
