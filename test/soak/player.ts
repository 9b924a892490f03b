import { connect, type MqttClient } from 'mqtt'
import { GREETING, type Script } from './script.ts'

/** Plays one device: it waits for its notice, then says one message after the other, each until it is acknowledged. */
export interface Player {
  username: string
  script: Script
  /** Settles with the notice. */
  told: Promise<void>
  /** `turn` is waited for before each message. */
  play(turn: () => Promise<void>): Promise<void>
  counts: { published: number; acknowledged: number }
  /** By mark: when it was acknowledged (ms since 1970). */
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
    ...{
      reconnectPeriod: RECONNECT_MS,
      connectTimeout: 10_000,
      keepalive: 30,
      reconnectOnConnackError: true,
    },
  })
  // It comes again; what is wrong for good shows in what never arrives.
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
