/** Which live connections subscribe to which topic. Filters have no wildcards here, so a map is enough. */
export interface Listeners<C> {
  /** Returns false if it was added before. */
  add(topic: string, client: C): boolean
  remove(topic: string, client: C): void
  has(topic: string): boolean
}

export function createListeners<C>(): Listeners<C> {
  const byTopic = new Map<string, Set<C>>()
  return {
    add(topic, client) {
      const clients = byTopic.get(topic) ?? new Set<C>()
      byTopic.set(topic, clients)
      const isNew = !clients.has(client)
      clients.add(client)
      return isNew
    },
    remove(topic, client) {
      const clients = byTopic.get(topic)
      clients?.delete(client)
      if (clients?.size === 0) byTopic.delete(topic)
    },
    has: (topic) => byTopic.has(topic),
  }
}
