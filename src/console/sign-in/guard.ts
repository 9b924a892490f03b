import type { Context, MiddlewareHandler } from 'hono'
import { getCookie } from 'hono/cookie'
import { cookiePrefix, isFromOwnPage } from '../../auth/session.ts'
import { principalOfVisitor } from '../../auth/visitor.ts'
import { forbidden } from '../../common/errors.ts'
import type { ConsoleEnv } from '../layout/page.tsx'
import { chooseLanguage } from '../texts.ts'

export const LANGUAGE_COOKIE = 'edge_ota_language'

/** Sets the language of the page: the one in the visitor's cookie, else the one that the browser asks for. */
export const chooseTexts: MiddlewareHandler<ConsoleEnv> = async (c, next) => {
  c.set(
    'language',
    chooseLanguage(getCookie(c, LANGUAGE_COOKIE, cookiePrefix(c)), c.req.header('accept-language')),
  )
  await next()
}

/** The page that sent the request, as htmx names it; the overview if the request names none. */
function pageOf(c: Context): string {
  const from = c.req.header('hx-current-url') ?? ''
  return URL.canParse(from) ? from : new URL('/', c.req.url).href
}

/** Sets `principal`. Sends a visitor who is not signed in to the sign-in, which leads back to the page afterwards. */
export const requireSession: MiddlewareHandler<ConsoleEnv> = async (c, next) => {
  const principal = await principalOfVisitor(c, Date.now())
  if (principal?.tenantId == null) {
    const isPart = c.req.header('hx-request') !== undefined
    const { pathname, search } = new URL(isPart || c.req.method !== 'GET' ? pageOf(c) : c.req.url)
    const signIn = `/sign-in?to=${encodeURIComponent(pathname + search)}`
    // htmx would put the target of a redirect into the part; this header leads the whole page there.
    return isPart ? c.body(null, 401, { 'hx-redirect': signIn }) : c.redirect(signIn, 303)
  }
  if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
  c.set('principal', principal)
  await next()
}
