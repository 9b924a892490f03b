import { iso } from '../common/time.ts'
import { AWAY_AFTER_MS, type Watch, watchBridge } from './absence.ts'
import { keepAlert } from './alerts.ts'
import { attachmentOf, lastSignOf } from './socket.ts'

/** A bridge is here, or was until now. */
export function markPresent({ kv }: DurableObjectStorage, now: number): void {
  kv.put('watch', { seenAt: now, isTold: false } satisfies Watch)
}

/** An absence begins with the end of the last connection. */
export function markLeft(ctx: DurableObjectState, socket: WebSocket, now: number): void {
  const others = ctx.getWebSockets().filter((other) => other !== socket && attachmentOf(other))
  if (attachmentOf(socket) && others.length === 0) markPresent(ctx.storage, now)
}

/** A batch of the bridge came. Where it was told to be away and its socket is open, it was only slow. */
export function markHeard(ctx: DurableObjectState, now: number): void {
  const isOpen = ctx.getWebSockets().some(attachmentOf)
  if (isOpen && ctx.storage.kv.get<Watch>('watch')?.isTold) markPresent(ctx.storage, now)
}

/**
 * An absence is told once (`bridge.away`). The hub's alarm looks, since no event says that a bridge did not come.
 * `upTo` is how far it has handed over.
 */
export function lookForBridge(ctx: DurableObjectState, upTo: number, now: number): void {
  const before = ctx.storage.kv.get<Watch>('watch')
  if (!before) return
  const { watch, awaySince } = watchBridge(before, lastSign(ctx, upTo), now)
  ctx.storage.kv.put('watch', watch)
  if (awaySince === null) return
  keepAlert(ctx.storage, { type: 'bridge.away', at: now, data: { since: iso(awaySince) } })
}

/** When to look for the bridge, in ms since 1970; null where there is no need. */
export function nextLook({ kv }: DurableObjectStorage): number | null {
  const watch = kv.get<Watch>('watch')
  return watch && !watch.isTold ? watch.seenAt + AWAY_AFTER_MS : null
}

/** The newest sign of a bridge that is connected; null where none is. A dead connection may stay open for long. */
function lastSign(ctx: DurableObjectState, upTo: number): number | null {
  const signs = ctx.getWebSockets().flatMap((socket) => {
    return attachmentOf(socket) ? [Math.max(lastSignOf(ctx, socket), upTo)] : []
  })
  return signs.length === 0 ? null : Math.max(...signs)
}
