/**
 * Counts connections per username. Several with one token are allowed, and the device is online while one of them is
 * open (src/protocol/README.md#identity).
 */
export interface Presence {
  opened(username: string): void
  closed(username: string): void
  isOpen(username: string): boolean
}

export function createPresence(events: {
  connected(username: string): void
  disconnected(username: string): void
}): Presence {
  const open = new Map<string, number>()
  return {
    isOpen: (username) => open.has(username),
    opened(username) {
      const before = open.get(username) ?? 0
      open.set(username, before + 1)
      if (before === 0) events.connected(username)
    },
    closed(username) {
      const before = open.get(username)
      if (before === undefined) return
      if (before > 1) open.set(username, before - 1)
      else {
        open.delete(username)
        events.disconnected(username)
      }
    },
  }
}
