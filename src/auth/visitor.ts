import type { Context } from 'hono'
import { openDb } from '../db/client.ts'
import type { AppEnv, Principal } from '../http/principal.ts'
import { principalOfAccess } from './access.ts'
import { keyOfSession } from './session.ts'
import { toPrincipal, touchKey } from './store.ts'

/** The caller behind a browser: the key that signed in, or whom Cloudflare Access identified; undefined if neither. */
export async function principalOfVisitor<E extends AppEnv>(
  c: Context<E>,
  now: number,
): Promise<Principal | undefined> {
  const key = await keyOfSession(c, now)
  if (!key) return principalOfAccess(c, now)
  await touchKey(openDb(c.env.DB), key, now)
  return toPrincipal(key)
}
