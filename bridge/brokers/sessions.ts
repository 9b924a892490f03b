import type { Aedes } from 'aedes'

/** The methods of aedes' memory persistence that are used here (aedes-persistence 11; not in its types). */
interface Persistence {
  addSubscriptions(client: { id: string }, subs: { topic: string }[]): Promise<unknown>
  outgoingEnqueueCombi(subs: { clientId: string }[], packet: unknown): Promise<void>
  outgoingClearMessageId(client: { id: string }, packet: { messageId?: number | undefined }): Promise<unknown>
  subscriptionsByTopic(topic: string): Promise<{ clientId: string }[]>
  cleanSubscriptions(client: { id: string }): Promise<unknown>
  cleanIncoming(client: { id: string }): Promise<unknown>
}

/** The stored sessions (`clean: false`) of the embedded broker. */
export interface Sessions {
  hasSubscriber(topic: string): Promise<boolean>
  /** Counts a stored session that connected; ends the username's oldest sessions beyond the limit, except live ones. */
  opened(username: string, clientId: string, isLive: (clientId: string) => boolean): void
  /** Ends all of a username's stored sessions. */
  drop(username: string): void
}

const MAX_SESSIONS_PER_USERNAME = 8
const MAX_QUEUED_PER_SESSION = 20

/**
 * Bounds what aedes stores for sessions, and closes a hole in it: as soon as one filter of a SUBSCRIBE is granted,
 * aedes stores the refused ones too, so notices for other devices would be queued for the session.
 */
export function guardSessions(
  broker: Aedes,
  isGranted: (client: object, topic: string) => boolean,
): Sessions {
  const store = (broker as unknown as { persistence: Persistence }).persistence
  const add = store.addSubscriptions.bind(store)
  const enqueue = store.outgoingEnqueueCombi.bind(store)
  const clear = store.outgoingClearMessageId.bind(store)
  const queued = new Map<string, number>()
  /** username → its stored sessions, the latest last. */
  const stored = new Map<string, Set<string>>()

  store.addSubscriptions = (client, subs) =>
    add(
      client,
      subs.filter(({ topic }) => isGranted(client, topic)),
    )

  store.outgoingClearMessageId = async (client, packet) => {
    const cleared = await clear(client, packet)
    if (cleared) {
      const left = (queued.get(client.id) ?? 1) - 1
      if (left > 0) queued.set(client.id, left)
      else queued.delete(client.id)
    }
    return cleared
  }

  store.outgoingEnqueueCombi = async (subs, packet) => {
    await enqueue(subs, packet)
    for (const { clientId } of subs) {
      const length = (queued.get(clientId) ?? 0) + 1
      queued.set(clientId, length)
      // Drops the oldest message that was never sent; a notice is superseded by the next one anyway.
      if (length > MAX_QUEUED_PER_SESSION) {
        await store.outgoingClearMessageId({ id: clientId }, { messageId: undefined })
      }
    }
  }

  function end(id: string): void {
    void store.cleanSubscriptions({ id })
    void store.cleanIncoming({ id })
    void (async () => {
      while (await store.outgoingClearMessageId({ id }, { messageId: undefined }));
    })()
  }

  return {
    hasSubscriber: async (topic) => (await store.subscriptionsByTopic(topic)).length > 0,
    opened(username, clientId, isLive) {
      const ids = stored.get(username) ?? new Set<string>()
      stored.set(username, ids)
      ids.delete(clientId)
      ids.add(clientId)
      for (const id of ids) {
        if (ids.size <= MAX_SESSIONS_PER_USERNAME) break
        if (isLive(id)) continue
        ids.delete(id)
        end(id)
      }
    },
    drop(username) {
      for (const id of stored.get(username) ?? []) end(id)
      stored.delete(username)
    },
  }
}
