import type { FrameToBridge } from '../protocol/bridge.ts'

/** What a socket keeps over hibernation, from its bridge's hello on. */
export interface Attachment {
  /** The bridge's own name for itself, the same after a restart (`lease.ts`). */
  instance: string
  /** The bridge understands leases. */
  asksForLease: boolean
  /** The bridge holds the lease: notices go to it. */
  isActive: boolean
  /** Notices that the bridge will still take. */
  credit: number
  /** When the bridge said hello, in ms since 1970. */
  since: number
}

export const attachmentOf = (socket: WebSocket) => socket.deserializeAttachment() as Attachment | null

/** The last sign of the bridge behind an open socket: its hello or its last ping, in ms since 1970. */
export const lastSignOf = (ctx: DurableObjectState, socket: WebSocket): number =>
  Math.max(attachmentOf(socket)?.since ?? 0, ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime() ?? 0)

/** False if the socket is already gone. */
export function send(socket: WebSocket, frame: FrameToBridge): boolean {
  try {
    socket.send(JSON.stringify(frame))
    return true
  } catch {
    return false
  }
}
