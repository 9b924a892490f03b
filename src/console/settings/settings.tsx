import type { Child, FC, PropsWithChildren } from 'hono/jsx'
import { usePage } from '../layout/page.tsx'
import type { TextKey } from '../texts.ts'

const PAGES: [path: string, text: TextKey][] = [
  ['/settings', 'settings.keys'],
  ['/settings/webhooks', 'settings.webhooks'],
  ['/settings/audit', 'settings.audit'],
]

/** A page of the settings, with links to the others; `action` is its main button. */
export const Settings: FC<PropsWithChildren<{ action?: Child }>> = ({ action, children }) => {
  const { t, path } = usePage()
  return (
    <>
      <div class="top">
        <h1>{t('nav.settings')}</h1>
        {action}
      </div>
      <nav class="row" aria-label={t('nav.settings')}>
        {PAGES.map(([target, text]) => (
          <a class="button" href={target} {...(path === target && { 'aria-current': 'page' })}>
            {t(text)}
          </a>
        ))}
      </nav>
      {children}
    </>
  )
}

export const NotAllowed: FC = () => {
  const { t } = usePage()
  return (
    <>
      <h1>{t('nav.settings')}</h1>
      <p>{t('settings.notAllowed')}</p>
    </>
  )
}
