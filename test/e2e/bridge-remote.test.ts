import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as tcpConnect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BatchItem } from '../../src/protocol/bridge.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'
import { freePort, hasMosquitto } from './mosquitto.ts'

let f: BridgeFixture
let dir: string
let port: number
let mosquitto: ChildProcess | undefined
const devices: MqttClient[] = []

async function startMosquitto(): Promise<void> {
  const config = join(dir, 'mosquitto.conf')
  writeFileSync(
    config,
    `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location ${dir}/\n`,
  )
  mosquitto = spawn('mosquitto', ['-c', config], {
    stdio: 'ignore',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
  })
  for (let open = false; !open; ) {
    open = await new Promise((resolve) => {
      const socket = tcpConnect(port, '127.0.0.1')
      socket.once('connect', () => resolve(true)).once('error', () => setTimeout(resolve, 20, false))
      socket.once('connect', () => socket.destroy())
    })
  }
}

async function stopMosquitto(): Promise<void> {
  const ended = new Promise((resolve) => mosquitto?.once('exit', resolve))
  mosquitto?.kill('SIGTERM')
  await ended
  mosquitto = undefined
}

async function device(): Promise<MqttClient> {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 })
  devices.push(client)
  return client
}

const messages = (items: BatchItem[]) => items.flatMap((item) => (item.kind === 'message' ? [item] : []))
const results = (items: BatchItem[]) =>
  items.flatMap((item) =>
    item.kind === 'sent' ? ['sent'] : item.kind === 'taken' ? [item.result as string] : [],
  )

describe.skipIf(!hasMosquitto())('a bridge that joins a broker', () => {
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'mosquitto-'))
    port = await freePort()
    await startMosquitto()
    f = await bridgeFixture()
  })
  afterEach(async () => {
    for (const client of devices.splice(0)) client.end(true)
    await f.end()
    if (mosquitto) await stopMosquitto()
    rmSync(dir, { recursive: true })
  })
  const start = (more = {}) => f.start({ mqttUrl: `mqtt://127.0.0.1:${port}`, ...more })

  it('messages count only if their topic names the publisher', async () => {
    const bridge = await start({ timing: { upToIntervalMs: 50 } })
    await until('the broker’s backlog to be through', () =>
      f.worker.batches.some(({ upTo }) => upTo !== undefined),
    )
    const client = await device()
    await client.publishAsync('ota/device/progress/a%20b', 'nobody', { qos: 1 })
    await client.publishAsync('ota/device/progress/dev-1', '1', { qos: 1 })
    await client.publishAsync('ota/device/progress/dev-1', '2', { qos: 1 })
    await until('both', () => messages(f.worker.taken).length === 2)
    expect(messages(f.worker.taken).map((item) => [item.username, item.topic, textOf(item)])).toEqual([
      ['dev-1', 'ota/device/progress', '1'],
      ['dev-1', 'ota/device/progress', '2'],
    ])
    expect(bridge.stats().broker).toMatchObject({ unidentified: 1 })
  })

  it('presence is known if the rules of the broker report it', async () => {
    const bridge = await start()
    const rule = await device()
    const say = (event: string, username: string, text: string) =>
      rule.publishAsync(`ota/bridge/presence/${event}/${username}`, text, { qos: 1 })
    await until('the broker', () => bridge.stats().broker!.connects === 1)
    await say('connected', 'dev-1', 'client-1')
    await say('connected', 'dev-1', 'client-1')
    await say('connected', 'dev-1', 'client-2')
    await say('subscribed', 'dev-1', ownTopic('dev-1'))
    await say('disconnected', 'dev-1', 'client-1')
    await say('connected', 'a b', 'client-3')
    await say('disconnected', 'dev-1', 'client-2')
    await say('disconnected', 'dev-2', 'client-9')
    const events = () =>
      f.worker.taken.flatMap((item) =>
        item.kind === 'presence' && item.event !== 'reset' ? [`${item.event} ${item.username}`] : [],
      )
    await until('the last', () => events().includes('disconnected dev-2'))
    expect(events()).toEqual([
      'connected dev-1',
      'subscribed dev-1',
      'disconnected dev-1',
      'disconnected dev-2',
    ])
  })

  it('the publisher is the last user property, also with a shared subscription', async () => {
    const bridge = await start({ identity: 'user-property', sharedGroup: 'group' })
    await until('the broker', () => bridge.stats().broker!.connects === 1)
    const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0, protocolVersion: 5 })
    devices.push(client)
    const say = (text: string, $client_username: string | string[]) =>
      client.publishAsync('ota/device/progress', text, {
        qos: 1,
        properties: { userProperties: { $client_username } },
      })
    // The bridge makes the subscription while it connects.
    await until('the subscription', () => {
      void say('0', 'dev-0')
      return messages(f.worker.taken).length > 0
    })
    await say('1', ['victim', 'dev-1'])
    await say('2', 'a/b')
    await until('the message', () => messages(f.worker.taken).some((item) => textOf(item) === '1'))
    const last = messages(f.worker.taken).find((item) => textOf(item) === '1')
    expect([last!.username, last!.topic]).toEqual(['dev-1', 'ota/device/progress'])
    await until('the other', () => bridge.stats().broker!.unidentified === 1)
  })

  it('a notice is offline if the broker has no subscriber, else taken', async () => {
    await start()
    const client = await device()
    await client.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
    const heard: string[] = []
    client.on('message', (_topic, payload) => heard.push(payload.toString()))
    await until('the socket', () => f.worker.sockets.size === 1)
    f.worker.notices(notice(1, 'dev-1'))
    await until('the notice', () => heard.length === 1)
    await until('taken', () => results(f.worker.taken).length === 2)
    f.worker.notices(notice(2, 'nobody'))
    await until('offline', () => results(f.worker.taken).length === 4)
    expect(results(f.worker.taken)).toEqual(['sent', 'taken', 'sent', 'offline'])
  })

  it('while its broker is away the bridge holds `upTo` and publishes nothing late, and goes on afterwards', async () => {
    const bridge = await start({ timing: { upToIntervalMs: 50, publishWithinMs: 200 } })
    await until('upTo', () => f.worker.batches.some(({ upTo }) => upTo !== undefined))
    await stopMosquitto()
    f.worker.notices(notice(1, 'dev-1'))
    await until('given back', () => results(f.worker.taken).length === 1)
    expect(results(f.worker.taken)).toEqual(['returned'])
    const held = f.worker.batches.at(-1)!.upTo!
    const from = f.worker.batches.length
    await until('batches meanwhile', () => f.worker.batches.length > from + 3)
    expect(f.worker.batches.slice(from).every(({ upTo }) => upTo === held)).toBe(true)

    await startMosquitto()
    const client = await device()
    const heard: string[] = []
    client.on('message', (topic) => heard.push(topic))
    await client.subscribeAsync(ownTopic('dev-1'), { qos: 1 })
    await until('the broker again', () => bridge.stats().broker!.connects === 2)
    await until('upTo goes on', () => f.worker.batches.at(-1)!.upTo! > held)
    f.worker.notices(notice(2, 'dev-1'))
    await until('the second notice', () => heard.length > 0)
    expect(bridge.stats().downlink).toMatchObject({ returned: 1, taken: 1 })
    expect(heard).toHaveLength(1)
  })
})
