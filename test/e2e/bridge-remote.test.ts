import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, connect as tcpConnect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BatchItem } from '../../src/hub/frames.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

const hasMosquitto = spawnSync('sh', ['-c', 'PATH=$PATH:/usr/sbin command -v mosquitto']).status === 0

let f: BridgeFixture
let dir: string
let port: number
let mosquitto: ChildProcess | undefined
const devices: MqttClient[] = []

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

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

describe.skipIf(!hasMosquitto)('a bridge that joins a broker', () => {
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

  it('takes messages whose topic names the publisher, and no others', async () => {
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

  it('says offline where the broker knows no subscriber, and taken where it does', async () => {
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

  it('holds upTo while its broker is away, publishes nothing late, and goes on after it is back', async () => {
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
