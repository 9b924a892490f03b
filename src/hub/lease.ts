import { FRAME_VERSION, LEASE_MS } from '../protocol/bridge.ts'
import { attachmentOf, lastSignOf, send } from './socket.ts'

/** Names the active one among the bridges of one name. */
export interface Lease {
  /** The bridge's own name for itself. It is kept in the spool, so a restart keeps it. */
  instance: string
  /** Grows with each change of the holder: an item under a smaller number is older. */
  number: number
  /** The holder's last sign, in ms since 1970, once it has no connection; 0 if it gave the lease back. */
  seenAt: number
}

/**
 * The lease after `instance` has asked for it. `lastSign` (ms) is that of the holder's open connection, null if it has
 * none. Returns the same object if the holder stays.
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

/** A bridge asks for the lease, by its hello or because the holder's lease has ended. It and the others are told. */
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
    // Silences are counted anew: nobody knows what the other bridge still holds.
    if (before && lease.number > before.number) ctx.storage.kv.put('steadySince', now)
    for (const other of ctx.getWebSockets()) if (other !== socket) tell(ctx, other, false)
  }
  tell(ctx, socket, lease.instance === instance)
}

/** The holder's connection has ended; `isOver` if the bridge said that it will not come back. */
export function leaveLease(ctx: DurableObjectState, socket: WebSocket, isOver: boolean, now: number): void {
  const lease = readLease(ctx.storage)
  const attachment = attachmentOf(socket)
  if (!lease || !attachment?.isActive || attachment.instance !== lease.instance) return
  const others = ctx.getWebSockets().filter((other) => other !== socket && attachmentOf(other)?.isActive)
  if (others.length === 0) ctx.storage.kv.put('lease', { ...lease, seenAt: isOver ? 0 : now })
}

/** Whoever holds the lease will not come back for it. */
export function giveLeaseUp({ kv }: DurableObjectStorage): void {
  const lease = kv.get<Lease>('lease')
  if (lease) kv.put('lease', { ...lease, seenAt: 0 })
}

/** The standby that has waited longest takes over once the holder's lease has ended. */
export function passLeaseOn(ctx: DurableObjectState, now: number): void {
  const [standby] = standbysOf(ctx)
  if (standby && now >= leaseEndsAt(ctx)) askForLease(ctx, standby, now)
}

/** When a standby may take over, in ms since 1970; null if none waits. */
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

/** Notes whether a connection is the active one, and tells its bridge. */
function tell(ctx: DurableObjectState, socket: WebSocket, isActive: boolean): void {
  const attachment = attachmentOf(socket)
  if (!attachment) return
  socket.serializeAttachment({ ...attachment, isActive })
  sendRole(ctx, socket, isActive)
}

/** Tells the bridge behind a connection whether it is the active one, if it understands leases. */
export function sendRole(ctx: DurableObjectState, socket: WebSocket, active: boolean): void {
  const lease = readLease(ctx.storage)
  if (!lease || !attachmentOf(socket)?.asksForLease) return
  send(socket, { v: FRAME_VERSION, t: 'lease', number: lease.number, active })
}
