import { z } from 'zod'
import {
  MAX_PAYLOAD_BYTES,
  parseDownlinkTopic,
  TOPIC_NAME,
  UPLINK_TOPIC_NAMES,
} from '../src/protocol/device.ts'
import type { IdentityName } from './config.ts'

/** What a joined broker hands over, before anybody knows whose it is. */
export interface ForeignMessage {
  topic: string
  payload: Uint8Array
  /** MQTT 5, as mqtt.js gives them: a name that came several times has a list. */
  userProperties?: Record<string, string | string[]> | undefined
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
  /** Larger messages are left out unread, in bytes. */
  maxBytes: number
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

const identified = (username: string | undefined, topic: string | undefined, payload: Uint8Array) =>
  username !== undefined && TOPIC_NAME.test(username) && topic !== undefined
    ? { username, topic, payload }
    : undefined

/** The broker appends the publisher to the topic: `ota/device/progress/{username}`, `ota/device/inform/up/{username}`. */
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
 * The broker appends the publisher to the message, as the last `$client_username` of its MQTT 5 user properties. What
 * stands before it the device may have written itself.
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
 * The broker puts what the device published into an envelope (the platform's variant of gmqtt):
 * `{"device_id" | "token", "values": base64}`. One that a device writes itself comes as `values` of the broker's.
 */
export const envelope: Identity = {
  filters: UPLINK_TOPIC_NAMES,
  maxBytes: Math.ceil(MAX_PAYLOAD_BYTES / 3) * 4 + 1024,
  read({ topic, payload }) {
    const read = envelopeText.safeParse(jsonOf(payload))
    if (!read.success) return undefined
    const { device_id, token, values } = read.data
    // Two names that differ: it is not said which of them the broker vouches for.
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
