import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { setCookie } from 'hono/cookie'
import { principalOfAccess } from '../../auth/access.ts'
import { hashKey, isKey } from '../../auth/key.ts'
import { endSession, hasSessions, isFromOwnPage, startSession } from '../../auth/session.ts'
import { findKey } from '../../auth/store.ts'
import { forbidden, tooLarge } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { limitAddress } from '../../http/rate-limit.ts'
import { type ConsoleEnv, render } from '../layout/page.tsx'
import type { TextKey } from '../texts.ts'
import { LANGUAGE_COOKIE } from './guard.ts'
import { SignIn } from './sign-in-page.tsx'

/** Cloudflare answers this path itself, in front of the Worker. */
const ACCESS_SIGN_OUT = '/cdn-cgi/access/logout'
const MAX_FORM_BYTES = 16 * 1024
const YEAR_SECONDS = 365 * 24 * 3600
/** A path on this host; browsers would read `//` or `/\` at its beginning as another host. */
const OWN_PATH = /^\/(?![/\\])[^\s]{0,500}$/

const ownPath = (path: string | undefined) => (path !== undefined && OWN_PATH.test(path) ? path : '/')

const limitForm = bodyLimit({
  maxSize: MAX_FORM_BYTES,
  onError: () => {
    throw tooLarge('request.too_large', `A sign-in may have ${MAX_FORM_BYTES} bytes.`)
  },
})

export const signInRoutes = new Hono<ConsoleEnv>()
  .get('/sign-in', (c) =>
    render(c, 'signIn.title', <SignIn to={ownPath(c.req.query('to'))} isOn={hasSessions(c)} />),
  )
  .post('/sign-in', limitForm, async (c) => {
    if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
    await limitAddress(c)
    // A body that is not a form has no key in it.
    const form = await c.req.parseBody().catch(() => ({}) as Record<string, unknown>)
    const text = typeof form.key === 'string' ? form.key.trim() : ''
    const to = ownPath(typeof form.to === 'string' ? form.to : undefined)
    const key = isKey(text) ? await findKey(openDb(c.env.DB), await hashKey(text)) : undefined
    const fault: TextKey | undefined = !key
      ? 'signIn.wrong'
      : key.tenantId === null || key.role === 'bridge'
        ? 'signIn.notATenant'
        : undefined
    if (!hasSessions(c)) return render(c, 'signIn.title', <SignIn to={to} isOn={false} />, 401)
    if (!key || fault)
      return render(c, 'edge-ota', <SignIn to={to} isOn={hasSessions(c)} fault={fault} />, 401)
    await startSession(c, key, Date.now())
    return c.redirect(to, 303)
  })
  .post('/sign-out', async (c) => {
    if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
    endSession(c)
    // A visitor who came in by Access must be signed out there too, or the next page would let them in again.
    const isByAccess = (await principalOfAccess(c, Date.now())) !== undefined
    return c.redirect(isByAccess ? ACCESS_SIGN_OUT : '/sign-in', 303)
  })
  .get('/language', (c) => {
    setCookie(c, LANGUAGE_COOKIE, c.req.query('to') === 'zh' ? 'zh' : 'en', {
      path: '/',
      sameSite: 'Lax',
      maxAge: YEAR_SECONDS,
    })
    const from = c.req.header('referer') ?? ''
    if (!URL.canParse(from)) return c.redirect('/', 303)
    const { pathname, search } = new URL(from)
    return c.redirect(ownPath(pathname + search), 303)
  })
