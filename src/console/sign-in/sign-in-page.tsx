import { usePage } from '../layout/page.tsx'
import { Field } from '../layout/parts.tsx'
import type { TextKey } from '../texts.ts'

/** The form for a key; a text instead of it if sign-in is not set up. */
export const SignIn = ({ to, isOn, fault }: { to: string; isOn: boolean; fault?: TextKey | undefined }) => {
  const { t } = usePage()
  return (
    <section class="card signin">
      <h1>edge-ota</h1>
      {isOn ? (
        <form method="post" action="/sign-in" class="stack">
          <input type="hidden" name="to" value={to} />
          <Field label={t('signIn.key')} hint={t('signIn.hint')}>
            <input type="password" name="key" required autocomplete="current-password" maxlength={128} />
          </Field>
          <p class="fault" role="alert">
            {fault && t(fault)}
          </p>
          <button type="submit" class="main">
            {t('signIn.title')}
          </button>
        </form>
      ) : (
        <p>{t('signIn.off')}</p>
      )}
      <p>
        <a href="/language?to=en" lang="en">
          English
        </a>{' '}
        ·{' '}
        <a href="/language?to=zh" lang="zh-CN">
          中文
        </a>
      </p>
    </section>
  )
}
