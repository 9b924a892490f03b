import type { MqttClient } from 'mqtt'
import type { BenchFleet } from './fleet.ts'
import { rate } from './fleet.ts'
import type { Local } from './local.ts'
import { connectDevice } from './publishers.ts'
import { progressOf } from './uplink-http.ts'
import { type BrokerName, untilHandedOver, withBridge } from './with-bridge.ts'

const CONNECTIONS = 500
/** Messages of each device that may wait for their acknowledgement. */
const IN_FLIGHT = 8
const MESSAGES = 30_000

/**
 * Progress messages a second from MQTT devices through the broker, the bridge and its spool until they are durable in
 * the task's object. The devices have their notices.
 */
export const uplinkMqtt = (local: Local, fleet: BenchFleet, broker: BrokerName, runs: number) =>
  withBridge(local, broker, async (bridge) => {
    const devices = fleet.devices.slice(0, CONNECTIONS)
    const clients = await Promise.all(
      devices.map(({ accessToken }) => connectDevice(bridge.mqttUrl, accessToken)),
    )
    await untilHandedOver(bridge)
    const rates: number[] = []
    for (let run = 0; run <= runs; run++) {
      const bodies = [...progressOf({ ...fleet, devices }, MESSAGES, run * 5 + 1)].map(({ body }) =>
        JSON.stringify(body),
      )
      const since = performance.now()
      await Promise.all(clients.map((client, index) => publish(client, bodies, index)))
      await untilHandedOver(bridge)
      // Run 0 is a warm-up: V8 compiles the code.
      if (run > 0) rates.push(rate(MESSAGES, since))
    }
    for (const client of clients) client.end(true)
    return rates
  })

/** Publishes the bodies of one device: every `CONNECTIONS`th from `index` on. */
async function publish(client: MqttClient, bodies: string[], index: number): Promise<void> {
  const waiting = new Set<Promise<unknown>>()
  for (let n = index; n < bodies.length; n += CONNECTIONS) {
    const sent = client.publishAsync('ota/device/progress', bodies[n]!, { qos: 1 })
    waiting.add(sent)
    void sent.then(() => waiting.delete(sent))
    if (waiting.size >= IN_FLIGHT) await Promise.race(waiting)
  }
  await Promise.all(waiting)
}
