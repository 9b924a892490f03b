import type { FrameToBridge } from './frames.ts'

/** What a socket keeps over hibernation, from its bridge's hello on. */
export interface Attachment {
  bridge: string
  /** Notices that the bridge will still take. */
  credit: number
  /** When it said hello, in ms since 1970. */
  since: number
}

export const attachmentOf = (socket: WebSocket) => socket.deserializeAttachment() as Attachment | null

/** False where the socket is already gone. */
export function send(socket: WebSocket, frame: FrameToBridge): boolean {
  try {
    socket.send(JSON.stringify(frame))
    return true
  } catch {
    return false
  }
}
