import type { FC } from 'hono/jsx'
import { usePage } from '../layout/page.tsx'
import { Field } from '../layout/parts.tsx'

/** The file of a package, the progress of its upload, and the digest that the file must have, if one is given. */
export const FileFields: FC = () => {
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
    </>
  )
}
