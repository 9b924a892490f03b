import { keysInForce } from '../auth/store.ts'
import { errorFields, logError } from '../common/log.ts'
import { openDb } from '../db/client.ts'
import { keyIdOf } from './socket.ts'

/** The call that tells of a revoked key may be lost: so often the hub looks by itself, while sockets are open. */
const LOOK_EVERY_MS = 60_000
const LOOKED_AT = 'keysLookedAt'

/** When to look at the keys of the open sockets, in ms since 1970; null if none is open. */
export function nextKeyLook(ctx: DurableObjectState): number | null {
  if (openSockets(ctx).length === 0) return null
  return (ctx.storage.kv.get<number>(LOOKED_AT) ?? 0) + LOOK_EVERY_MS
}

/** The open sockets whose keys are not in force (any more). If D1 cannot say, none is: the next look follows. */
export async function findRevoked(
  ctx: DurableObjectState,
  db: D1Database,
  now: number,
): Promise<WebSocket[]> {
  ctx.storage.kv.put(LOOKED_AT, now)
  try {
    const sockets = openSockets(ctx)
    const ids = new Set(sockets.map((socket) => keyIdOf(ctx, socket)))
    const valid = await keysInForce(openDb(db), [...ids])
    return sockets.filter((socket) => !valid.has(keyIdOf(ctx, socket)))
  } catch (error) {
    logError('hub.keys_unknown', errorFields(error))
    return []
  }
}

const openSockets = (ctx: DurableObjectState) =>
  ctx.getWebSockets().filter(({ readyState }) => readyState === WebSocket.OPEN)
