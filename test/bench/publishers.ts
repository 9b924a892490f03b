import { connect, type MqttClient } from 'mqtt'

/** A few devices that say as much as they can. */
export interface Publishers {
  /** Resolves when so many messages, of all together, are acknowledged. */
  publish(count: number): Promise<void>
  end(): void
}

export const USERNAMES = ['bench-0', 'bench-1', 'bench-2', 'bench-3']

/** Of each: messages without an acknowledgement. */
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

/** A device that tries until it is let in. */
export function connectDevice(mqttUrl: string, username: string): Promise<MqttClient> {
  const client = connect(mqttUrl, {
    username,
    password: '',
    clientId: username,
    // The plugin lets nobody in before the bridge has read the credentials.
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
