import type { FC } from 'hono/jsx'
import { usePage } from '../layout/page.tsx'
import { Field } from '../layout/parts.tsx'

/** A signing key to choose; `product` is its product's name where there are several. */
export interface KeyChoice {
  id: string
  name: string
  product?: string
}

/**
 * The file of a package, the progress of its upload, and the digest that the file must have, if one is given; if there are
 * signing keys, its signature.
 */
export const FileFields: FC<{ keys: KeyChoice[] }> = ({ keys }) => {
  const { t } = usePage()
  return (
    <>
      <Field label={t('package.file')} hint={t('package.fileHint')}>
        <input type="file" name="file" required />
      </Field>
      <progress value={0} max={1} hidden aria-label={t('package.progress')} />
      <Field label={t('package.digest')} hint={t('package.digestHint')}>
        <input name="x-content-sha256" data-asks data-digest maxlength={64} pattern="[0-9a-fA-F]{64}" />
      </Field>
      {keys.length > 0 && (
        <>
          <Field label={t('signing.key')}>
            <select name="keyId" data-asks data-signing-key>
              <option value="">{t('package.unsigned')}</option>
              {keys.map(({ id, name, product }) => (
                <option value={id}>{product === undefined ? name : `${product}: ${name}`}</option>
              ))}
            </select>
          </Field>
          <Field label={t('package.signature')} hint={t('package.signatureHint')}>
            <input name="signature" data-asks data-signature maxlength={88} pattern="[A-Za-z0-9+\/]{86}==" />
          </Field>
        </>
      )}
    </>
  )
}
