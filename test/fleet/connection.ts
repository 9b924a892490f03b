import { connect } from 'mqtt'

/** One MQTT connection of a device, subscribed to its downlink topic. */
export interface Connection {
  /** Resolves at the PUBACK; rejects where the connection ends before. */
  publish(topic: string, payload: string): Promise<void>
  /** Says goodbye. */
  close(): void
  /** Vanishes, as when the network is lost. */
  cut(): void
  /** Resolves when the connection has ended, whoever ended it. */
  ended: Promise<void>
}

const CONNECT_TIMEOUT_MS = 30_000
const REFUSED = 128

/**
 * Connects with the AccessToken as username and an empty password, and subscribes with QoS 1 (PROTOCOL.md, 1 and 2).
 * Rejects where the broker refuses either. It never connects again by itself.
 */
export async function openConnection(options: {
  mqttUrl: string
  accessToken: string
  clientId: string
  cleanSession: boolean
  downlink: string
  onMessage: (payload: Buffer) => void
}): Promise<Connection> {
  const client = connect(options.mqttUrl, {
    username: options.accessToken,
    password: '',
    clientId: options.clientId,
    clean: options.cleanSession,
    protocolVersion: 4,
    reconnectPeriod: 0,
    connectTimeout: CONNECT_TIMEOUT_MS,
    // A timer for each of 10,000 devices would tell nothing that the closed socket does not.
    keepalive: 0,
  })
  const ended = new Promise<void>((resolve) => client.once('close', resolve))
  const untilEnded = ended.then(() => {
    throw new Error('the connection ended')
  })
  untilEnded.catch(() => {}) // nobody may be waiting
  client.on('message', (_topic, payload) => options.onMessage(payload))
  try {
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve())
      client.on('error', reject)
      untilEnded.catch(reject)
    })
    const grants = await Promise.race([client.subscribeAsync(options.downlink, { qos: 1 }), untilEnded])
    if (grants.some(({ qos }) => qos >= REFUSED)) throw new Error('the broker refused the subscription')
  } catch (error) {
    client.end(true)
    throw error
  }
  return {
    publish: async (topic, payload) => {
      await Promise.race([client.publishAsync(topic, payload, { qos: 1 }), untilEnded])
    },
    close: () => void client.end(),
    cut: () => void client.end(true),
    ended,
  }
}
