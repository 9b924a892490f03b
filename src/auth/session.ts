import type { Context } from 'hono'
import { deleteCookie, getSignedCookie, setSignedCookie } from 'hono/cookie'
import type { CookieOptions } from 'hono/utils/cookie'
import { openDb } from '../db/client.ts'
import type { AppEnv } from '../http/principal.ts'
import { randomText, sha256 } from './key.ts'
import { type ApiKey, deleteSession, findKeyOfSession, insertSession } from './store.ts'

// A browser's session is a cookie with a random id, signed by the Worker. D1 has the id's hash, with the key that signed
// in and the session's end, so that a sign-out ends it for whoever has the cookie. The signature spares D1 the cookies
// that nobody was given. The key itself is kept nowhere.

const COOKIE = 'edge_ota_session'
const SESSION_SECONDS = 12 * 3600
const ID_BYTES = 32

const isSecure = <E extends AppEnv>(c: Context<E>) => new URL(c.req.url).protocol === 'https:'

/** Whether anybody can sign in here by key. */
export const hasSessions = <E extends AppEnv>(c: Context<E>) => !!c.env.SESSION_SECRET

/**
 * What each cookie has. Over HTTPS its name has the prefix `__Host-`: browsers take it from no other host, and over no
 * other path. Plain http is for loopback, where browsers refuse that prefix.
 */
export const cookieOptions = <E extends AppEnv>(c: Context<E>): CookieOptions => ({
  sameSite: 'Lax',
  path: '/',
  ...(isSecure(c) && { secure: true, prefix: 'host' as const }),
})

/** The prefix by which to read a cookie that was set with `cookieOptions`. */
export const cookiePrefix = <E extends AppEnv>(c: Context<E>) => (isSecure(c) ? 'host' : undefined)

export async function startSession<E extends AppEnv>(c: Context<E>, key: ApiKey, now: number): Promise<void> {
  const id = randomText(ID_BYTES)
  const session = { idHash: await sha256(id), keyId: key.id, endsAt: now + SESSION_SECONDS * 1000 }
  await insertSession(openDb(c.env.DB), session, now)
  await setSignedCookie(c, COOKIE, id, c.env.SESSION_SECRET ?? '', {
    ...cookieOptions(c),
    httpOnly: true,
    maxAge: SESSION_SECONDS,
  })
}

/** Ends the session for good: its cookie is worth nothing from now on, whoever kept it. */
export async function endSession<E extends AppEnv>(c: Context<E>): Promise<void> {
  const id = await sessionIdOf(c)
  if (id !== undefined) await deleteSession(openDb(c.env.DB), await sha256(id))
  deleteCookie(c, COOKIE, cookieOptions(c))
}

/** The key that signed in; undefined if none did, the session is over, or the key was revoked since. */
export async function keyOfSession<E extends AppEnv>(
  c: Context<E>,
  now: number,
): Promise<ApiKey | undefined> {
  const id = await sessionIdOf(c)
  return id === undefined ? undefined : findKeyOfSession(openDb(c.env.DB), await sha256(id), now)
}

/** The id in the cookie; undefined without a cookie that the Worker signed. */
async function sessionIdOf<E extends AppEnv>(c: Context<E>): Promise<string | undefined> {
  if (!hasSessions(c)) return undefined
  return (await getSignedCookie(c, c.env.SESSION_SECRET ?? '', COOKIE, cookiePrefix(c))) || undefined
}

/**
 * Whether one of our own pages sent this. A browser says in `Origin` where a request comes from, and no other site can
 * change that; a request without `Origin` may only read.
 */
export function isFromOwnPage<E extends AppEnv>(c: Context<E>): boolean {
  const origin = c.req.header('origin')
  if (origin === undefined) return c.req.method === 'GET' || c.req.method === 'HEAD'
  return origin === new URL(c.req.url).origin
}
