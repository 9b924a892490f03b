import { parseDownlinkTopic, TOPIC_NAME } from '../../src/protocol/device.ts'
import { createPresence } from '../presence.ts'
import type { BrokerEvents } from './broker.ts'

const PREFIX = 'ota/bridge/presence/'
/** A client id, with the username in front, or a downlink topic. */
const MAX_TEXT_BYTES = 512

/** A joined broker's rules publish presence on `…/{event}/{username}` (brokers/emqx). */
export const PRESENCE_FILTER = `${PREFIX}+/+`

/**
 * Reads what such rules publish; returns false for any other topic. Devices must not be able to publish on these
 * topics. The payload of `connected` and `disconnected` is a client id, that of `subscribed` is a topic filter.
 */
export function createPresenceReader(
  events: Pick<BrokerEvents, 'connected' | 'disconnected' | 'subscribed'>,
): (topic: string, payload: Uint8Array) => boolean {
  const presence = createPresence(events)
  /** Connections that are counted in `presence`, so that a repeated event counts once. */
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
      // A connection from before this bridge started is not counted here, but its end must be told.
      if (open.delete(connection)) presence.closed(username)
      else if (!presence.isOpen(username)) events.disconnected(username)
    }
    return true
  }
}
