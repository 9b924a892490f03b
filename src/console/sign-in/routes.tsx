import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { setCookie } from 'hono/cookie'
import { audit, auditStranger } from '../../audit/audit.ts'
import { principalOfAccess } from '../../auth/access.ts'
import { hashKey, isKey } from '../../auth/key.ts'
import { cookieOptions, endSession, hasSessions, isFromOwnPage, startSession } from '../../auth/session.ts'
import { type ApiKey, findKey, findKeyThatWas, toPrincipal } from '../../auth/store.ts'
import { forbidden, tooLarge } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { LIMIT_PERIOD_SECONDS, maySignIn } from '../../http/rate-limit.ts'
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

/** The console is for people of a tenant. */
const mayVisit = ({ tenantId, role }: ApiKey) => tenantId !== null && role !== 'bridge'

export const signInRoutes = new Hono<ConsoleEnv>()
  .get('/sign-in', (c) =>
    render(c, 'signIn.title', <SignIn to={ownPath(c.req.query('to'))} isOn={hasSessions(c)} />),
  )
  .post('/sign-in', limitForm, async (c) => {
    if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
    // A body that is not a form has no key in it.
    const form = await c.req.parseBody().catch(() => ({}) as Record<string, unknown>)
    const to = ownPath(typeof form.to === 'string' ? form.to : undefined)
    const refuse = (status: 401 | 429, fault?: TextKey) =>
      render(c, 'signIn.title', <SignIn to={to} isOn={hasSessions(c)} fault={fault} />, status)
    if (!hasSessions(c)) return refuse(401)
    if (!(await maySignIn(c))) {
      c.header('retry-after', String(LIMIT_PERIOD_SECONDS))
      return refuse(429, 'signIn.tooMany')
    }
    const text = typeof form.key === 'string' ? form.key.trim() : ''
    const hash = isKey(text) ? await hashKey(text) : undefined
    const db = openDb(c.env.DB)
    const key = hash === undefined ? undefined : await findKey(db, hash)
    const fault = key ? (mayVisit(key) ? undefined : 'signIn.notATenant') : 'signIn.wrong'
    if (!key || fault) {
      const known = key ?? (hash === undefined ? undefined : await findKeyThatWas(db, hash))
      const reason = key ? 'not_of_a_tenant' : known ? 'revoked' : 'unknown_key'
      const event = { action: 'session.refuse', target: known?.id ?? null, detail: { reason } }
      await auditStranger(c, known ? toPrincipal(known) : null, event)
      return refuse(401, fault)
    }
    c.set('principal', toPrincipal(key))
    await audit(c, { action: 'session.start', target: key.id })
    await startSession(c, key, Date.now())
    return c.redirect(to, 303)
  })
  .post('/sign-out', async (c) => {
    if (!isFromOwnPage(c)) throw forbidden('This comes from another site.')
    await endSession(c)
    // A visitor who came in by Access must be signed out there too, or the next page would let them in again.
    const isByAccess = (await principalOfAccess(c, Date.now())) !== undefined
    return c.redirect(isByAccess ? ACCESS_SIGN_OUT : '/sign-in', 303)
  })
  .get('/language', (c) => {
    setCookie(c, LANGUAGE_COOKIE, c.req.query('to') === 'zh' ? 'zh' : 'en', {
      ...cookieOptions(c),
      maxAge: YEAR_SECONDS,
    })
    const from = c.req.header('referer') ?? ''
    if (!URL.canParse(from)) return c.redirect('/', 303)
    const { pathname, search } = new URL(from)
    return c.redirect(ownPath(pathname + search), 303)
  })
