import { FRAME_VERSION, LEASE_MS } from '../protocol/bridge.ts'
import { attachmentOf, lastSignOf, send } from './socket.ts'

/** Which of the bridges of one name is the active one. */
export interface Lease {
  /** The bridge's own name for itself, kept in its spool: a restart is the same one. */
  instance: string
  /** Grows with each change of the holder; what was taken in under a smaller one is older. */
  number: number
  /** The holder's last sign, in ms since 1970, once it has no connection; 0 where it gave the lease back. */
  seenAt: number
}

/**
 * Who holds the lease after `instance` has asked for it. `lastSign` is that of the holder's open connection, null
 * where it has none. Answers the same lease where the holder stays.
 */
export function claimLease(
  lease: Lease | undefined,
  instance: string,
  lastSign: number | null,
  now: number,
): Lease {
  if (!lease) return { instance, number: 1, seenAt: now }
  if (lease.instance === instance) return lease
  return now < leaseEnd(lease, lastSign) ? lease : { instance, number: lease.number + 1, seenAt: now }
}

/** When a standby may take over from the holder, in ms since 1970. */
export const leaseEnd = (lease: Lease, lastSign: number | null) =>
  Math.max(lease.seenAt, lastSign ?? 0) + (lease.seenAt === 0 && lastSign === null ? 0 : LEASE_MS)

export const readLease = ({ kv }: DurableObjectStorage) => kv.get<Lease>('lease')

/** A bridge asks for the lease, by its hello or because the holder's has ended; it and the others are told. */
export function askForLease(ctx: DurableObjectState, socket: WebSocket, now: number): void {
  const attachment = attachmentOf(socket)
  if (!attachment) return
  const { instance, asksForLease } = attachment
  const before = readLease(ctx.storage)
  const lease = asksForLease
    ? claimLease(before, instance, lastSignOfHolder(ctx, before), now)
    : { instance, number: before?.number ?? 1, seenAt: now }
  if (lease !== before) {
    ctx.storage.kv.put('lease', lease)
    // Silences are counted anew: what the other bridge still holds nobody knows.
    if (before && lease.number > before.number) ctx.storage.kv.put('steadySince', now)
    for (const other of ctx.getWebSockets()) if (other !== socket) tell(ctx, other, false)
  }
  tell(ctx, socket, lease.instance === instance)
}

/** The holder's connection has ended: `isOver` where it said so itself, and will not be back. */
export function leaveLease(ctx: DurableObjectState, socket: WebSocket, isOver: boolean, now: number): void {
  const lease = readLease(ctx.storage)
  const attachment = attachmentOf(socket)
  if (!lease || !attachment?.isActive || attachment.instance !== lease.instance) return
  const others = ctx.getWebSockets().filter((other) => other !== socket && attachmentOf(other)?.isActive)
  if (others.length === 0) ctx.storage.kv.put('lease', { ...lease, seenAt: isOver ? 0 : now })
}

/** The standby that has waited longest takes over where the holder gives no sign any more. */
export function passLeaseOn(ctx: DurableObjectState, now: number): void {
  const [standby] = standbysOf(ctx)
  if (standby && now >= leaseEndsAt(ctx)) askForLease(ctx, standby, now)
}

/** When to look whether a standby takes over, in ms since 1970; null where none waits. */
export const nextPassing = (ctx: DurableObjectState): number | null =>
  standbysOf(ctx).length === 0 ? null : leaseEndsAt(ctx)

export const activeSockets = (ctx: DurableObjectState): WebSocket[] =>
  ctx.getWebSockets().filter((socket) => attachmentOf(socket)?.isActive)

export const standbysOf = (ctx: DurableObjectState): WebSocket[] =>
  ctx
    .getWebSockets()
    .filter((socket) => attachmentOf(socket)?.isActive === false)
    .sort((a, b) => attachmentOf(a)!.since - attachmentOf(b)!.since)

function leaseEndsAt(ctx: DurableObjectState): number {
  const lease = readLease(ctx.storage)
  return lease ? leaseEnd(lease, lastSignOfHolder(ctx, lease)) : 0
}

function lastSignOfHolder(ctx: DurableObjectState, lease: Lease | undefined): number | null {
  const signs = activeSockets(ctx)
    .filter((socket) => attachmentOf(socket)!.instance === lease?.instance)
    .map((socket) => lastSignOf(ctx, socket))
  return signs.length === 0 ? null : Math.max(...signs)
}

/** Writes down and says which part a connection plays. */
function tell(ctx: DurableObjectState, socket: WebSocket, isActive: boolean): void {
  const attachment = attachmentOf(socket)
  if (!attachment) return
  socket.serializeAttachment({ ...attachment, isActive })
  const { number } = readLease(ctx.storage)!
  if (attachment.asksForLease) send(socket, { v: FRAME_VERSION, t: 'lease', number, active: isActive })
}
