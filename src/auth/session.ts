import type { Context } from 'hono'
import { deleteCookie, getSignedCookie, setSignedCookie } from 'hono/cookie'
import { openDb } from '../db/client.ts'
import type { AppEnv } from '../http/principal.ts'
import { type ApiKey, findKeyById } from './store.ts'

// A browser's session is a cookie, signed by the Worker, with the id of the key that signed in and the session's end.
// The key itself is kept nowhere.

const COOKIE = 'edge_ota_session'
const SESSION_SECONDS = 12 * 3600
const VALUE = /^(key_[a-z0-9]{1,40})\.(\d{10})$/

const isSecure = <E extends AppEnv>(c: Context<E>) => new URL(c.req.url).protocol === 'https:'

/** Whether anybody can sign in here by key. */
export const hasSessions = <E extends AppEnv>(c: Context<E>) => !!c.env.SESSION_SECRET

export async function startSession<E extends AppEnv>(c: Context<E>, key: ApiKey, now: number): Promise<void> {
  const until = Math.floor(now / 1000) + SESSION_SECONDS
  await setSignedCookie(c, COOKIE, `${key.id}.${until}`, c.env.SESSION_SECRET ?? '', {
    httpOnly: true,
    sameSite: 'Lax',
    path: '/',
    secure: isSecure(c),
    maxAge: SESSION_SECONDS,
  })
}

export const endSession = <E extends AppEnv>(c: Context<E>) =>
  void deleteCookie(c, COOKIE, { path: '/', secure: isSecure(c) })

/** The key that signed in; undefined if none did, the session is over, or the key was revoked since. */
export async function keyOfSession<E extends AppEnv>(
  c: Context<E>,
  now: number,
): Promise<ApiKey | undefined> {
  if (!hasSessions(c)) return undefined
  const value = await getSignedCookie(c, c.env.SESSION_SECRET ?? '', COOKIE)
  const [, keyId, until] = VALUE.exec(value || '') ?? []
  if (keyId === undefined || Number(until) * 1000 <= now) return undefined
  return findKeyById(openDb(c.env.DB), keyId)
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
