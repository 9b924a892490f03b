import type { MiddlewareHandler } from 'hono'
import { getCookie } from 'hono/cookie'
import { isFromOwnPage } from '../auth/session.ts'
import { principalOfVisitor } from '../auth/visitor.ts'
import { forbidden } from '../errors.ts'
import type { ConsoleEnv } from './page.tsx'
import { chooseLanguage } from './texts.ts'

export const LANGUAGE_COOKIE = 'edge_ota_language'

/** By what the visitor chose before, else by the browser's own. */
export const chooseTexts: MiddlewareHandler<ConsoleEnv> = async (c, next) => {
  c.set('language', chooseLanguage(getCookie(c, LANGUAGE_COOKIE), c.req.header('accept-language')))
  await next()
}

/** Who is not signed in is sent to where they can, and back afterwards. */
export const requireSession: MiddlewareHandler<ConsoleEnv> = async (c, next) => {
  const principal = await principalOfVisitor(c, Date.now())
  if (principal?.tenantId == null) {
    const to =
      c.req.method === 'GET' && !c.req.header('hx-request') ? `?to=${encodeURIComponent(c.req.path)}` : ''
    return c.redirect(`/sign-in${to}`, 303)
  }
  if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
  c.set('principal', principal)
  await next()
}
