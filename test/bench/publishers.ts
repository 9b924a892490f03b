import { connect, type MqttClient } from 'mqtt'

/** A few devices that publish as fast as they can. */
export interface Publishers {
  /** Publishes `count` messages from all devices together; resolves when all are acknowledged. */
  publish(count: number): Promise<void>
  end(): void
}

export const USERNAMES = ['bench-0', 'bench-1', 'bench-2', 'bench-3']

/** Messages of each device that may wait for their acknowledgement. */
const IN_FLIGHT = 250
const PAYLOAD = JSON.stringify({ step: '42', desc: 'Upgrade Progress 42%' })

export async function connectPublishers(mqttUrl: string): Promise<Publishers> {
  const clients = await Promise.all(USERNAMES.map((username) => connectDevice(mqttUrl, username)))
  return {
    async publish(count) {
      const share = Math.ceil(count / clients.length)
      await Promise.all(clients.map((client) => publishFrom(client, share)))
    },
    end() {
      for (const client of clients) client.end(true)
    },
  }
}

/** Connects a device; tries until the broker accepts it. */
export function connectDevice(mqttUrl: string, username: string): Promise<MqttClient> {
  const client = connect(mqttUrl, {
    username,
    password: '',
    clientId: username,
    // The plugin refuses every device until the bridge has read the credentials.
    reconnectPeriod: 100,
    reconnectOnConnackError: true,
  })
  client.on('error', () => {})
  return new Promise((resolve) => client.once('connect', () => resolve(client)))
}

async function publishFrom(client: MqttClient, count: number): Promise<void> {
  const waiting = new Set<Promise<unknown>>()
  for (let n = 0; n < count; n++) {
    const sent = client.publishAsync('ota/device/progress', PAYLOAD, { qos: 1 })
    waiting.add(sent)
    void sent.then(() => waiting.delete(sent))
    if (waiting.size >= IN_FLIGHT) await Promise.race(waiting)
  }
  await Promise.all(waiting)
}
