import type { FrameToBridge } from '../protocol/bridge.ts'

const KEY_HEADER = 'x-key-id'

/** Asks a hub for a socket, for a bridge whose key the Worker has checked. Nothing of the bridge's own request goes on. */
export const socketRequest = (keyId: string) =>
  new Request('https://hub/socket', { headers: { upgrade: 'websocket', [KEY_HEADER]: keyId } })

/** The key id in a request that `socketRequest` made. */
export const keyIdOfRequest = (request: Request) => request.headers.get(KEY_HEADER) ?? ''

/** The id of the key with which a socket was opened. It is the socket's tag, so it is there before the bridge's hello. */
export const keyIdOf = (ctx: DurableObjectState, socket: WebSocket) => ctx.getTags(socket)[0] ?? ''

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
