import { z } from 'zod'
import {
  MAX_PAYLOAD_BYTES,
  parseDownlinkTopic,
  TOPIC_NAME,
  UPLINK_TOPIC_NAMES,
} from '../src/protocol/device.ts'
import type { IdentityName } from './config.ts'

/** A message from a joined broker, whose publisher is not known yet. */
export interface ForeignMessage {
  topic: string
  payload: Uint8Array
  /** MQTT 5 user properties as mqtt.js gives them: a name that occurs several times has a list. */
  userProperties?: Record<string, string | string[]> | undefined
}

export interface IdentifiedMessage {
  username: string
  /** The flat uplink topic, as the device published it. */
  topic: string
  payload: Uint8Array
}

/** How a joined broker says who published (src/protocol/README.md#identity). The embedded broker knows by itself. */
export interface Identity {
  /** The topic filters that the bridge subscribes to. */
  filters: readonly string[]
  /** Messages with a larger payload, in bytes, are dropped unread. */
  maxBytes: number
  /** Undefined if the broker does not vouch for a publisher: the message must be dropped. */
  read(message: ForeignMessage): IdentifiedMessage | undefined
}

/**
 * The topic that the broker rewrites to, without the publisher at its end → the uplink topic. For `inform` it has a
 * further level `up`, since `ota/device/inform/{username}` is the device's own downlink topic.
 */
const rewritten = new Map(
  UPLINK_TOPIC_NAMES.map((topic) => [parseDownlinkTopic(`${topic}/x`) ? `${topic}/up` : topic, topic]),
)

const identified = (username: string | undefined, topic: string | undefined, payload: Uint8Array) =>
  username !== undefined && TOPIC_NAME.test(username) && topic !== undefined
    ? { username, topic, payload }
    : undefined

/** The broker appends the publisher to the topic, as in `ota/device/progress/{username}`; see `rewritten`. */
export const topicSuffix: Identity = {
  filters: [...rewritten.keys()].map((topic) => `${topic}/+`),
  maxBytes: MAX_PAYLOAD_BYTES,
  read({ topic, payload }) {
    const cut = topic.lastIndexOf('/')
    return identified(topic.slice(cut + 1), rewritten.get(topic.slice(0, cut)), payload)
  },
}

const flatTopic = (topic: string) => (UPLINK_TOPIC_NAMES.includes(topic) ? topic : undefined)

/**
 * The broker appends the publisher as the last `$client_username` of the MQTT 5 user properties. The device may have
 * written earlier ones itself.
 */
export const userProperty: Identity = {
  filters: UPLINK_TOPIC_NAMES,
  maxBytes: MAX_PAYLOAD_BYTES,
  read({ topic, payload, userProperties }) {
    const username = [userProperties?.$client_username ?? []].flat().at(-1)
    return identified(username, flatTopic(topic), payload)
  },
}

const text = z.string().optional()
const envelopeText = z.object({ device_id: text, token: text, values: z.base64() })

/**
 * The broker wraps what the device published in an envelope (the platform's variant of gmqtt):
 * `{"device_id" | "token", "values": base64}`. An envelope that a device writes itself arrives inside `values`.
 */
export const envelope: Identity = {
  filters: UPLINK_TOPIC_NAMES,
  maxBytes: Math.ceil(MAX_PAYLOAD_BYTES / 3) * 4 + 1024,
  read({ topic, payload }) {
    const read = envelopeText.safeParse(jsonOf(payload))
    if (!read.success) return undefined
    const { device_id, token, values } = read.data
    // If the two names differ, it is not known which one the broker vouches for.
    if (device_id !== undefined && token !== undefined && device_id !== token) return undefined
    const bytes = Buffer.from(values, 'base64')
    return bytes.length > MAX_PAYLOAD_BYTES
      ? undefined
      : identified(device_id ?? token, flatTopic(topic), bytes)
  },
}

function jsonOf(payload: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(payload))
  } catch {
    return undefined
  }
}

export const IDENTITIES: Record<IdentityName, Identity> = {
  topic: topicSuffix,
  'user-property': userProperty,
  envelope,
}
