import type { Socket } from 'node:net'

/** Keeps the number of open sockets within a limit. Strangers that only connect cannot keep devices out. */
export interface Door {
  /** Returns false if the socket was closed, since all others belong to devices that were let in. */
  admit(socket: Socket): boolean
  /** The client of this socket was let in. */
  settled(socket: object): void
  closeAll(): void
}

/** Beyond `most` sockets, the one that has waited longest for its CONNECT makes room. */
export function createDoor(most: number): Door {
  const open = new Set<Socket>()
  /** Not let in yet, in the order of their coming. */
  const pending = new Set<Socket>()

  return {
    admit(socket) {
      if (open.size >= most) {
        const [longest] = pending
        const loser = longest ?? socket
        pending.delete(loser)
        open.delete(loser)
        loser.destroy()
        if (loser === socket) return false
      }
      open.add(socket)
      pending.add(socket)
      socket.once('close', () => {
        open.delete(socket)
        pending.delete(socket)
      })
      return true
    },
    settled: (socket) => {
      pending.delete(socket as Socket)
    },
    closeAll() {
      for (const socket of open) socket.destroy()
    },
  }
}
