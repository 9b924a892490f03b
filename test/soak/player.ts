import { connect, type MqttClient } from 'mqtt'
import { GREETING, type Script } from './script.ts'

/** Plays one device: waits for its notice, then publishes its messages one by one, each until it is acknowledged. */
export interface Player {
  username: string
  script: Script
  /** Resolves when the notice arrives. */
  told: Promise<void>
  /** Publishes all messages; waits for `turn` before each. */
  play(turn: () => Promise<void>): Promise<void>
  counts: { published: number; acknowledged: number }
  /** When each message was acknowledged, in ms since 1970, by its mark. */
  acknowledged: Map<string, number>
  end(): void
}

const RECONNECT_MS = 300
const OLD_VERSION = 'v1.0.0'

export function startPlayer(mqttUrl: string, username: string, script: Script): Player {
  const told = Promise.withResolvers<void>()
  const counts = { published: 0, acknowledged: 0 }
  const acknowledged = new Map<string, number>()
  const client: MqttClient = connect(mqttUrl, {
    username,
    password: '',
    clientId: username,
    clean: false,
    reconnectPeriod: RECONNECT_MS,
    connectTimeout: 10_000,
    keepalive: 30,
    reconnectOnConnackError: true,
  })
  // The client reconnects by itself; a lasting fault shows in messages that never arrive.
  client.on('error', () => {})
  client.on('connect', ({ sessionPresent }) => {
    if (!sessionPresent) client.subscribe(`ota/device/inform/${username}`, { qos: 1 })
  })
  client.on('message', () => told.resolve())
  const say = (topic: string, body: object) => client.publishAsync(topic, JSON.stringify(body), { qos: 1 })

  void say('ota/device/inform', { id: GREETING, params: { version: OLD_VERSION } })
  return {
    username,
    script,
    told: told.promise,
    counts,
    acknowledged,
    async play(turn) {
      for (const { topic, body, mark } of script.messages) {
        await turn()
        counts.published++
        await say(topic, body)
        counts.acknowledged++
        acknowledged.set(mark, Date.now())
      }
    },
    end: () => client.end(true),
  }
}
