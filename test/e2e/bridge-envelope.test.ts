import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { Aedes } from 'aedes'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { BridgeConfig } from '../../bridge/config.ts'
import { UPLINK_TOPIC_NAMES } from '../../src/protocol/device.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

/** Stands in for the platform's gmqtt: it wraps what devices publish in an envelope, and speaks only MQTT 3.1.1. */
async function startWrappingBroker(name: 'device_id' | 'token'): Promise<{ server: Server; close(): void }> {
  const usernames = new WeakMap<object, string>()
  const broker = await Aedes.createBroker({
    preConnect(client, packet, done) {
      usernames.set(client, packet.username ?? '')
      done(null, true)
    },
    authorizePublish(client, packet, done) {
      if (client && UPLINK_TOPIC_NAMES.includes(packet.topic)) {
        const values = Buffer.from(packet.payload).toString('base64')
        packet.payload = JSON.stringify({ [name]: usernames.get(client), values })
      }
      done(null)
    },
  })
  const server = createServer(broker.handle).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    server,
    close() {
      broker.close()
      server.close()
    },
  }
}

let f: BridgeFixture
let broker: Awaited<ReturnType<typeof startWrappingBroker>>
const devices: MqttClient[] = []
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(async () => {
  for (const client of devices.splice(0)) client.end(true)
  await f.end()
  broker.close()
})

const messages = () => f.worker.taken.flatMap((item) => (item.kind === 'message' ? [item] : []))

async function joined(name: 'device_id' | 'token', more: Partial<BridgeConfig> = {}) {
  broker = await startWrappingBroker(name)
  const mqttUrl = `mqtt://127.0.0.1:${(broker.server.address() as AddressInfo).port}`
  const bridge = await f.start({ mqttUrl, identity: 'envelope', timing: { upToIntervalMs: 50 }, ...more })
  // The marker came back, so all subscriptions are made.
  await until('upTo', () => f.worker.batches.some(({ upTo }) => upTo !== undefined))
  const device = async (username: string) => {
    const client = await connectAsync(mqttUrl, { username, password: '', reconnectPeriod: 0 })
    devices.push(client)
    return client
  }
  return { bridge, device }
}

it("the publisher is taken from the broker's envelope, over MQTT 3.1.1 if the broker refuses 5", async () => {
  const { bridge, device } = await joined('device_id')
  const largest = 'x'.repeat(64 * 1024)
  const one = await device('dev-1')
  await one.publishAsync('ota/device/inform', '{"params":{"version":"v1"}}', { qos: 1 })
  await one.publishAsync('ota/devices/progress', largest, { qos: 1 })
  const nobody = await device('a/b')
  await nobody.publishAsync('ota/device/progress', '{"step":"1"}', { qos: 1 })
  await one.publishAsync('ota/device/progress', `${largest}x`, { qos: 1 })
  await until('what is left out', () => bridge.stats().broker!.unidentified === 2)
  await until('the others', () => messages().length === 2)
  expect(messages().map((item) => [item.username, item.topic, textOf(item)])).toEqual([
    ['dev-1', 'ota/device/inform', '{"params":{"version":"v1"}}'],
    ['dev-1', 'ota/devices/progress', largest],
  ])
})

it('an envelope that a device wrote itself is read as its message', async () => {
  const { bridge, device } = await joined('token')
  const forged = JSON.stringify({ token: 'victim', values: Buffer.from('{"step":"-1"}').toString('base64') })
  await (await device('dev-1')).publishAsync('ota/device/progress', forged, { qos: 1 })
  await until('the message', () => messages().length === 1)
  expect(messages().map((item) => [item.username, textOf(item)])).toEqual([['dev-1', forged]])
  expect(bridge.stats().broker).toMatchObject({ unidentified: 0 })
})

it('notices go out through a broker with envelopes', async () => {
  const { device } = await joined('device_id')
  const client = await device('dev-1')
  const heard: string[] = []
  client.on('message', (topic) => heard.push(topic))
  await client.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
  await until('the socket', () => f.worker.sockets.size === 1)
  f.worker.notices(notice(1, 'dev-1'))
  await until('the notice', () => heard.length === 1)
  expect(heard).toEqual([ownTopic('dev-1')])
  await until('taken', () => f.worker.taken.some((item) => item.kind === 'taken' && item.result === 'taken'))
})

it('one device fills only its share of the spool behind a broker that cannot let it wait; what is dropped is counted', async () => {
  const { bridge, device } = await joined('token', {
    spoolMaxBytes: 1024 * 1024,
    shares: { spoolPercent: 20 },
  })
  const noisy = await device('noisy')
  const honest = await device('honest')
  f.worker.away = true
  const large = 'x'.repeat(6_000)
  for (let n = 0; n < 100; n++) await noisy.publishAsync('ota/device/progress', large, { qos: 1 })
  for (let n = 0; n < 10; n++) await honest.publishAsync('ota/device/progress', '{"step":1}', { qos: 1 })
  await until(
    'the last',
    () => bridge.stats().intake!.messages! + bridge.stats().broker!.droppedOverShare! === 110,
  )
  expect(bridge.stats().spool!.bytes).toBeLessThan(300 * 1024)
  f.worker.away = false
  await until('the others', () => messages().filter(({ username }) => username === 'honest').length === 10)
  const dropped = bridge.stats().broker!.droppedOverShare!
  expect(dropped).toBeGreaterThan(0)
  expect(bridge.stats().shares!.spool).toBe(dropped)
  await until('its share', () => messages().length === 110 - dropped)
})
