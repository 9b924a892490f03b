import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openSpool } from '../../bridge/spool.ts'
import { notice, textOf } from './bridge-fixture.ts'
import { type FakeWorker, startFakeWorker, until } from './fake-worker.ts'

let worker: FakeWorker
let dir: string
let processes: ChildProcess[]
let devices: MqttClient[]
beforeEach(async () => {
  worker = await startFakeWorker()
  dir = mkdtempSync(join(tmpdir(), 'bridge-process-'))
  processes = []
  devices = []
})
afterEach(async () => {
  for (const device of devices) device.end(true)
  for (const child of processes) child.kill('SIGKILL')
  await worker.close()
  rmSync(dir, { recursive: true })
})

function run(environment: Record<string, string>) {
  const child = spawn(process.execPath, ['bridge/main.ts'], {
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  processes.push(child)
  const output = { text: '' }
  child.stdout.on('data', (chunk) => {
    output.text += chunk
  })
  child.stderr.on('data', (chunk) => {
    output.text += chunk
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  return { child, output, ended }
}

const TOKEN = 'very-secret-token'
const PASSWORD = 'very-secret-password'

async function runBridge() {
  const running = run({
    WORKER_URL: worker.url,
    BRIDGE_KEY: worker.key,
    MQTT_PORT: '0',
    SPOOL_FILE: join(dir, 'spool.db'),
    LOG_LEVEL: 'trace',
  })
  const port = await until('the bridge to run', () => /"mqttPort":(\d+)/.exec(running.output.text)?.[1])
  worker.users.set(TOKEN, PASSWORD)
  const device = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    username: TOKEN,
    password: PASSWORD,
    reconnectPeriod: 0,
  })
  device.on('error', () => {})
  devices.push(device)
  return { ...running, device, port }
}

const publish = (device: MqttClient, texts: string[]) =>
  Promise.all(texts.map((text) => device.publishAsync('ota/device/progress', text, { qos: 1 })))
const numbers = Array.from({ length: 200 }, (_, at) => `payload-${at}`)

it('after a kill every acknowledged message is in the spool file', async () => {
  const { child, ended, device } = await runBridge()
  worker.away = true
  await publish(device, numbers)
  child.kill('SIGKILL')
  await ended
  const spool = openSpool(join(dir, 'spool.db'), { sync: 'normal' })
  const items = spool.peek(1_000, 1e9, []).map((item) => JSON.parse(item.json))
  expect(items.filter((item) => item.kind === 'message').map(textOf)).toEqual(numbers)
  spool.close()
})

it('on SIGTERM the bridge hands over its spool and ends within 10 s, and logs no secret', async () => {
  const { child, ended, output, device, port } = await runBridge()
  await publish(device, numbers)
  device.publish('elsewhere', 'payload', { qos: 1 })
  const denied = connectAsync(`mqtt://127.0.0.1:${port}`, {
    username: TOKEN,
    password: 'x',
    reconnectPeriod: 0,
  })
  await expect(denied).rejects.toThrow()
  child.kill('SIGTERM')
  expect(await ended).toBe(0)
  expect(worker.taken.filter((item) => item.kind === 'message')).toHaveLength(200)
  for (const line of output.text.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('level')
  for (const secret of [TOKEN, PASSWORD, worker.key, worker.url, 'payload-']) {
    expect(output.text).not.toContain(secret)
  }
})

it('on SIGTERM under load the bridge ends by itself even if the Worker answers no request', async () => {
  const { child, ended, device } = await runBridge()
  await until('the Worker to have it', () => worker.taken.length > 0)
  worker.silent = true
  const acknowledged: string[] = []
  let next = 0
  const load = () => {
    const text = `load-${next++}`
    device.publish('ota/device/progress', text, { qos: 1 }, (error) => {
      if (error) return
      acknowledged.push(text)
      load()
    })
  }
  for (let n = 0; n < 20; n++) load()
  await until('the load', () => acknowledged.length > 500)
  worker.notices(...[1, 2, 3].map((id) => notice(id, TOKEN)))
  child.kill('SIGTERM')
  // Exit code 1 would mean that it was cut off.
  expect(await ended).toBe(0)
  const spool = openSpool(join(dir, 'spool.db'), { sync: 'normal' })
  const items = spool.peek(1_000_000, 1e9, []).map((item) => JSON.parse(item.json))
  const kept = new Set(items.filter((item) => item.kind === 'message').map(textOf))
  expect(acknowledged.filter((text) => !kept.has(text))).toEqual([])
  spool.close()
})

it('on SIGTERM during its start the bridge ends at once', async () => {
  worker.away = true
  const { child, ended, output } = run({
    WORKER_URL: worker.url,
    BRIDGE_KEY: worker.key,
    MQTT_PORT: '0',
    SPOOL_FILE: join(dir, 'spool.db'),
  })
  await until('its first try', () => output.text.includes('no connection to the hub'))
  child.kill('SIGTERM')
  expect(await ended).toBe(0)
})

it('the bridge names every fault of its configuration and ends', async () => {
  const { ended, output } = run({ MQTT_PORT: 'x', SPOOL_SYNC: 'maybe' })
  expect(await ended).toBe(1)
  for (const name of ['WORKER_URL', 'BRIDGE_KEY', 'MQTT_PORT', 'SPOOL_SYNC'])
    expect(output.text).toContain(name)
})
