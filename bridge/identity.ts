import { parseDownlinkTopic, TOPIC_NAME, UPLINK_TOPIC_NAMES } from '../src/messages/protocol.ts'

/** What a joined broker hands over, before anybody knows whose it is. */
export interface ForeignMessage {
  topic: string
  payload: Uint8Array
}

export interface IdentifiedMessage {
  username: string
  /** The flat uplink topic, as the device published it. */
  topic: string
  payload: Uint8Array
}

/** Where a joined broker says who published (PROTOCOL.md, section 1). The embedded broker knows by itself. */
export interface Identity {
  /** What to subscribe to. */
  filters: readonly string[]
  /** Undefined: nobody vouches for the publisher, so it is no message. */
  read(message: ForeignMessage): IdentifiedMessage | undefined
}

/**
 * Uplink topic → what the broker rewrites it to, without the publisher at its end. `ota/device/inform/{username}`
 * is the device's own downlink topic, so there a level `up` stands between.
 */
const rewritten = new Map(
  UPLINK_TOPIC_NAMES.map((topic) => [parseDownlinkTopic(`${topic}/x`) ? `${topic}/up` : topic, topic]),
)

/** The broker appends the publisher to the topic: `ota/device/progress/{username}`, `ota/device/inform/up/{username}`. */
export const topicSuffix: Identity = {
  filters: [...rewritten.keys()].map((topic) => `${topic}/+`),
  read({ topic, payload }) {
    const cut = topic.lastIndexOf('/')
    const username = topic.slice(cut + 1)
    const flat = rewritten.get(topic.slice(0, cut))
    return flat !== undefined && TOPIC_NAME.test(username) ? { username, topic: flat, payload } : undefined
  },
}
