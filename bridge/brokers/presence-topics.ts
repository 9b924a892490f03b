import { parseDownlinkTopic, TOPIC_NAME } from '../../src/protocol/device.ts'
import { createPresence } from '../presence.ts'
import type { BrokerEvents } from './broker.ts'

const PREFIX = 'ota/bridge/presence/'
/** A client id, with the username in front, or a downlink topic. */
const MAX_TEXT_BYTES = 512

/** Where a joined broker's rules say who comes, goes and subscribes (brokers/emqx): `…/{event}/{username}`. */
export const PRESENCE_FILTER = `${PREFIX}+/+`

/**
 * Reads what such rules publish; answers whether a topic was one of theirs. Devices must not be able to publish there.
 * The payload of `connected` and `disconnected` is a client id, that of `subscribed` a topic filter.
 */
export function createPresenceReader(
  events: Pick<BrokerEvents, 'connected' | 'disconnected' | 'subscribed'>,
): (topic: string, payload: Uint8Array) => boolean {
  const presence = createPresence(events)
  /** Those that are counted, so that an event that comes twice counts once. */
  const open = new Set<string>()
  return (topic, payload) => {
    if (!topic.startsWith(PREFIX)) return false
    const [event, username = ''] = topic.slice(PREFIX.length).split('/')
    if (!TOPIC_NAME.test(username) || payload.length > MAX_TEXT_BYTES) return true
    const text = new TextDecoder().decode(payload)
    const connection = `${username}/${text}`
    if (event === 'subscribed') {
      if (parseDownlinkTopic(text)) events.subscribed(username, text)
    } else if (event === 'connected' && !open.has(connection)) {
      open.add(connection)
      presence.opened(username)
    } else if (event === 'disconnected') {
      // One of before this bridge began is not known here, and went all the same.
      if (open.delete(connection)) presence.closed(username)
      else if (!presence.isOpen(username)) events.disconnected(username)
    }
    return true
  }
}
