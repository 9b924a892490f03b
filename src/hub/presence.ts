import { iso } from '../common/time.ts'
import { AWAY_AFTER_MS, type Watch, watchBridge } from './absence.ts'
import { keepAlert } from './alerts.ts'
import { attachmentOf, lastSignOf } from './socket.ts'

/** A bridge is connected, or was until now. */
export function markPresent({ kv }: DurableObjectStorage, now: number): void {
  kv.put('watch', { seenAt: now, isTold: false } satisfies Watch)
}

/** A connection has ended: with the last one an absence begins. */
export function markLeft(ctx: DurableObjectState, socket: WebSocket, now: number): void {
  const others = ctx.getWebSockets().filter((other) => other !== socket && attachmentOf(other))
  if (attachmentOf(socket) && others.length === 0) markPresent(ctx.storage, now)
}

/** A batch of the bridge came. If the bridge was reported as away but its socket is open, it was only slow. */
export function markHeard(ctx: DurableObjectState, now: number): void {
  const isOpen = ctx.getWebSockets().some(attachmentOf)
  if (isOpen && ctx.storage.kv.get<Watch>('watch')?.isTold) markPresent(ctx.storage, now)
}

/**
 * Reports an absence, once (`bridge.away`). The hub's alarm calls this, since no event says that a bridge did not come.
 * `upTo` (ms) is how far it has handed over.
 */
export function lookForBridge(ctx: DurableObjectState, upTo: number, now: number): void {
  const before = ctx.storage.kv.get<Watch>('watch')
  if (!before) return
  const { watch, awaySince } = watchBridge(before, lastSign(ctx, upTo), now)
  ctx.storage.kv.put('watch', watch)
  if (awaySince === null) return
  keepAlert(ctx.storage, { type: 'bridge.away', at: now, data: { since: iso(awaySince) } })
}

/** When to look for the bridge, in ms since 1970; null if there is no need. */
export function nextLook({ kv }: DurableObjectStorage): number | null {
  const watch = kv.get<Watch>('watch')
  return watch && !watch.isTold ? watch.seenAt + AWAY_AFTER_MS : null
}

/** The newest sign of a connected bridge; null if none is. An open socket is no sign: a dead one may stay for long. */
function lastSign(ctx: DurableObjectState, upTo: number): number | null {
  const signs = ctx.getWebSockets().flatMap((socket) => {
    return attachmentOf(socket) ? [Math.max(lastSignOf(ctx, socket), upTo)] : []
  })
  return signs.length === 0 ? null : Math.max(...signs)
}
