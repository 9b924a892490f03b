import { connect } from 'mqtt'

/** One MQTT connection of a device, subscribed to its downlink topic. */
export interface Connection {
  /** Resolves at the PUBACK; rejects if the connection ends first. */
  publish(topic: string, payload: string): Promise<void>
  /** Disconnects properly, with a DISCONNECT packet. */
  close(): void
  /** Closes the socket without a DISCONNECT, as when the network is lost. */
  cut(): void
  /** Resolves when the connection has ended on either side. */
  ended: Promise<void>
}

const CONNECT_TIMEOUT_MS = 30_000
const REFUSED = 128

/**
 * Connects with the AccessToken as username and an empty password, and subscribes with QoS 1
 * (src/protocol/README.md#identity). Rejects if the broker refuses either. It never reconnects by itself.
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
    // No keep-alive: 10,000 timers would report nothing that closed sockets do not.
    keepalive: 0,
  })
  const ended = new Promise<void>((resolve) => client.once('close', resolve))
  const untilEnded = ended.then(() => {
    throw new Error('the connection ended')
  })
  untilEnded.catch(() => {}) // it may reject while nothing awaits it
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
