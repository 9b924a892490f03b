import type { Context } from 'hono'
import { raw } from 'hono/html'
import { createContext, type FC, type PropsWithChildren, useContext } from 'hono/jsx'
import type { JSX } from 'hono/jsx/jsx-runtime'
import { accessSettings } from '../../auth/access.ts'
import { admits } from '../../auth/middleware.ts'
import type { AppEnv, Principal, Role } from '../../http/principal.ts'
import { problemTexts } from '../problems.ts'
import { isTextKey, type Language, type TextKey, type Translate, translator } from '../texts.ts'
import { assetPath, SCRIPT_PARTS } from './assets.ts'

/** What every component of a page can read, by `usePage()`. */
export interface PageScope {
  language: Language
  t: Translate
  /** Null if nobody is signed in. */
  principal: Principal | null
  path: string
}

export interface ConsoleEnv extends AppEnv {
  Variables: AppEnv['Variables'] & { language: Language }
}

const Scope = createContext<PageScope>({ language: 'en', t: translator('en'), principal: null, path: '/' })
export const usePage = (): PageScope => useContext(Scope)

/** Whether the visitor's role admits `role`. A page hides what its visitor may not do; the API refuses it besides. */
export const useMay = (role: Role): boolean => {
  const { principal } = usePage()
  return principal !== null && admits(role, principal.role)
}

/** No inline script or style, no other host, no frame. `form-action` has the Access team: signing out leads there. */
const securityHeaders = (c: Context<ConsoleEnv>) => ({
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    `form-action 'self' ${accessSettings(c.env)?.team ?? ''}`,
  ].join('; '),
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'cache-control': 'private, no-store',
})

const scopeOf = (c: Context<ConsoleEnv>): PageScope => ({
  language: c.var.language,
  t: translator(c.var.language),
  principal: c.var.principal ?? null,
  path: c.req.path,
})

/** A whole page. `title` is a key of the texts, or the name of what the page shows. */
export function render(
  c: Context<ConsoleEnv>,
  title: string,
  content: JSX.Element,
  status: 200 | 401 | 403 | 404 | 429 | 500 | 503 = 200,
) {
  const scope = scopeOf(c)
  return c.html(
    <Scope.Provider value={scope}>
      {raw('<!doctype html>')}
      <Document title={isTextKey(title) ? scope.t(title) : title}>{content}</Document>
    </Scope.Provider>,
    status,
    securityHeaders(c),
  )
}

const FAULTS = { 404: 'page.notFound', 500: 'page.failed', 503: 'page.unavailable' } as const

/** The page for an address without content (404), after an unexpected error (500), or if the platform is away (503). */
export function renderFault(c: Context<ConsoleEnv>, status: keyof typeof FAULTS) {
  const text = translator(c.var.language)(FAULTS[status])
  return render(c, text, <h1>{text}</h1>, status)
}

/** A part of a page, which htmx puts in its place. */
export const renderPart = (c: Context<ConsoleEnv>, content: JSX.Element) =>
  c.html(<Scope.Provider value={scopeOf(c)}>{content}</Scope.Provider>, 200, securityHeaders(c))

const NAVIGATION: { path: string; text: TextKey }[] = [
  { path: '/', text: 'nav.overview' },
  { path: '/products', text: 'nav.products' },
  { path: '/devices', text: 'nav.devices' },
  { path: '/firmware', text: 'nav.firmware' },
  { path: '/settings', text: 'nav.settings' },
]

/** The CSP forbids htmx's inline styles. After an error, a part of a page stays as it was. */
const HTMX_CONFIG = JSON.stringify({
  includeIndicatorCSS: false,
  history: false,
  noSwap: [204, 304, '4xx', '5xx'],
})

const Document: FC<PropsWithChildren<{ title: string }>> = ({ title, children }) => {
  const { language, t, principal } = usePage()
  return (
    <html lang={language === 'zh' ? 'zh-CN' : 'en'}>
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="htmx-config" content={HTMX_CONFIG} />
        <title>{`${title} · edge-ota`}</title>
        <link rel="icon" href={assetPath('icon.svg')} />
        <link rel="stylesheet" href={assetPath('style.css')} />
        <script src={assetPath('htmx.js')} defer />
        {SCRIPT_PARTS.map((name) => (
          <link rel="modulepreload" href={assetPath(name)} />
        ))}
        <script src={assetPath('console.client.js')} type="module" />
      </head>
      <body>
        <a class="skip" href="#content">
          {t('nav.skip')}
        </a>
        {principal && <Header />}
        <main
          id="content"
          data-offline={t('page.offline')}
          data-problems={JSON.stringify(problemTexts(language))}
        >
          {children}
        </main>
        <div id="messages" role="status" aria-live="polite" />
        <dialog id="confirm" aria-label={t('page.confirm')}>
          <p />
          <form method="dialog" class="buttons">
            <button type="submit" value="no">
              {t('page.cancel')}
            </button>
            <button type="submit" value="yes" class="main">
              {t('page.confirm')}
            </button>
          </form>
        </dialog>
      </body>
    </html>
  )
}

const Header: FC = () => {
  const { language, t, principal, path } = usePage()
  const isHere = (target: string) => (target === '/' ? path === '/' : path.startsWith(target))
  return (
    <header>
      <a class="brand" href="/">
        edge-ota
      </a>
      <nav aria-label={t('nav.main')}>
        {NAVIGATION.map(({ path: target, text }) => (
          <a href={target} {...(isHere(target) && { 'aria-current': 'page' })}>
            {t(text)}
          </a>
        ))}
      </nav>
      <form method="post" action="/sign-out">
        <span class="quiet">
          {principal?.keyName} · {principal?.role}
        </span>
        <a href={`/language?to=${language === 'en' ? 'zh' : 'en'}`} lang={language === 'en' ? 'zh-CN' : 'en'}>
          {t('nav.language')}
        </a>
        <button type="submit" class="plain">
          {t('nav.signOut')}
        </button>
      </form>
    </header>
  )
}
