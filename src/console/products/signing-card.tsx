import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import { type Product, signingNameOf } from '../../products/product.ts'
import type { SigningKey } from '../../signing/signing-key.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, Field, Table, Time } from '../layout/parts.tsx'

/** How a product's firmware is signed; only admins change it. */
export const SigningCard: FC<{ product: Product; keys: SigningKey[] }> = ({ product, keys }) => {
  const { t } = usePage()
  const isAdmin = useMay('admin')
  const { name, requireSignature } = product
  const path = `/api/v1/products/${product.id}`
  const wanted = JSON.stringify({ requireSignature: !requireSignature })
  return (
    <Card title={t('signing.title')}>
      <dl>
        <dt>{t('signing.name')}</dt>
        <dd>{signingNameOf(product)}</dd>
        <dt>{t('signing.required')}</dt>
        <dd>{requireSignature ? t('signing.isRequired') : t('signing.isOptional')}</dd>
      </dl>
      <Table
        caption={t('signing.keys')}
        heads={[
          t('page.name'),
          t('signing.publicKey'),
          t('page.created'),
          t('page.status'),
          ...(isAdmin ? [t('page.actions')] : []),
        ]}
        rows={keys.map((key) => (
          <tr>
            <td class="narrow">{key.name}</td>
            <td class="narrow">
              <code>{key.publicKey}</code>
            </td>
            <td class="narrow">
              <Time at={iso(key.createdAt)} />
            </td>
            <td class="narrow">
              {key.retiredAt === null ? (
                <span class="badge good">{t('signing.inForce')}</span>
              ) : (
                <>
                  <span class="badge">{t('signing.retired')}</span> <Time at={iso(key.retiredAt)} />
                </>
              )}
            </td>
            {isAdmin && (
              <td>
                {key.retiredAt === null && (
                  <button
                    type="button"
                    class="plain"
                    data-api={`DELETE ${path}/signing-keys/${key.id}`}
                    data-confirm={t('signing.retireAsk', { name: key.name })}
                  >
                    {t('signing.retire')}
                  </button>
                )}
              </td>
            )}
          </tr>
        ))}
      />
      {isAdmin && (
        <p class="row">
          <button type="button" data-opens="#new-signing-key">
            {t('signing.addKey')}
          </button>
          <button
            type="button"
            data-api={`PATCH ${path}`}
            data-body={wanted}
            data-confirm={t(requireSignature ? 'signing.releaseAsk' : 'signing.requireAsk', { name })}
          >
            {t(requireSignature ? 'signing.release' : 'signing.require')}
          </button>
        </p>
      )}
      {isAdmin && (
        <Dialog id="new-signing-key" title={t('signing.addKey')}>
          <form data-api={`POST ${path}/signing-keys`}>
            <Field label={t('page.name')}>
              <input name="name" required maxlength={128} />
            </Field>
            <Field label={t('signing.publicKey')} hint={t('signing.publicKeyHint')}>
              <input name="publicKey" required maxlength={44} pattern="[A-Za-z0-9+\/]{43}=" />
            </Field>
            {keys.length === 0 && <p class="quiet">{t('signing.fixes', { name: signingNameOf(product) })}</p>}
            <DialogEnd action={t('page.save')} />
          </form>
        </Dialog>
      )}
      {isAdmin && keys.length === 0 && (
        <form class="row" data-api={`PATCH ${path}`}>
          <Field label={t('signing.name')} hint={t('signing.nameHint')}>
            <input name="signingName" required maxlength={64} value={signingNameOf(product)} />
          </Field>
          <button type="submit">{t('page.save')}</button>
          <p class="fault" data-fault role="alert" />
        </form>
      )}
    </Card>
  )
}
