import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { connect, type MqttClient } from 'mqtt'
import { freePort, type Mosquitto, startMosquitto } from '../e2e/mosquitto.ts'
import { type InstantWorker, startInstantWorker } from './instant-worker.ts'

// `npm run bench:bridge`: the bridge alone, with a Worker that takes everything at once.

const USERNAMES = ['bench-0', 'bench-1', 'bench-2', 'bench-3']
const PUBLISHERS = USERNAMES.length
const IN_FLIGHT = 250
const PAYLOAD = JSON.stringify({ step: '42', desc: 'Upgrade Progress 42%' })
const LOGIN = 'edge-ota-bridge'

interface Figures {
  publishToSpool: number[]
  spoolToWorker: number[]
}

interface Bridge {
  child: ChildProcess
  mqttUrl: string
  figure(name: string): Promise<number>
  end(): Promise<void>
}

const options = parseArgs({
  options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } },
}).values
const RUNS = options.quick ? 3 : 5
const MESSAGES = options.quick ? 20_000 : 50_000
const BACKLOG = options.quick ? 100_000 : 500_000

async function startBridge(
  worker: InstantWorker,
  directory: string,
  more: Record<string, string>,
): Promise<Bridge> {
  const [port, healthPort] = [await freePort(), await freePort()]
  const child = spawn(process.execPath, ['bridge/main.ts'], {
    env: {
      PATH: process.env.PATH,
      ...{ WORKER_URL: worker.url, BRIDGE_KEY: worker.key, SPOOL_FILE: join(directory, 'spool.db') },
      ...{
        MQTT_PORT: String(port),
        HEALTH_PORT: String(healthPort),
        SPOOL_MAX_MB: '4096',
        LOG_LEVEL: 'error',
      },
      ...more,
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  process.on('exit', () => child.kill('SIGKILL'))
  const figure = async (name: string): Promise<number> => {
    const response = await fetch(`http://127.0.0.1:${healthPort}/metrics`)
    const line = (await response.text()).split('\n').find((each) => each.startsWith(`${name} `))
    return Number(line?.split(' ')[1])
  }
  while ((await figure('edge_ota_bridge_active').catch(() => 0)) !== 1) await sleep(50)
  return {
    child,
    mqttUrl: more.MQTT_URL ?? `mqtt://127.0.0.1:${port}`,
    figure,
    async end() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** All messages from a few publishers, each with so many unacknowledged. */
async function publish(clients: MqttClient[], count: number): Promise<void> {
  await Promise.all(
    clients.map(async (client) => {
      const share = Math.ceil(count / clients.length)
      const waiting = new Set<Promise<unknown>>()
      for (let n = 0; n < share; n++) {
        const sent = client.publishAsync('ota/device/progress', PAYLOAD, { qos: 1 })
        waiting.add(sent)
        void sent.then(() => waiting.delete(sent))
        if (waiting.size >= IN_FLIGHT) await Promise.race(waiting)
      }
      await Promise.all(waiting)
    }),
  )
}

const rate = (count: number, since: number) => Math.round(count / ((performance.now() - since) / 1000))

/** First the Worker is away until all is in the spool; then it takes it. */
async function throughput(env: Record<string, string>, directory: string): Promise<Figures> {
  const figures: Figures = { publishToSpool: [], spoolToWorker: [] }
  for (let run = 0; run < RUNS; run++) {
    const worker = await startInstantWorker(USERNAMES)
    const place = join(directory, `run-${run}-${env.SPOOL_SYNC ?? 'normal'}-${'MQTT_URL' in env}`)
    const bridge = await startBridge(worker, place, env)
    const clients = await connectAll(bridge.mqttUrl)
    worker.away = true
    const before = await bridge.figure('edge_ota_bridge_messages_total')
    let since = performance.now()
    await publish(clients, MESSAGES)
    while ((await bridge.figure('edge_ota_bridge_messages_total')) - before < MESSAGES) await sleep(20)
    figures.publishToSpool.push(rate(MESSAGES, since))
    worker.away = false
    // It tries again within seconds: counted is from the first batch that is taken.
    const waited = worker.taken
    while (worker.taken === waited) await sleep(1)
    since = performance.now()
    while ((await bridge.figure('edge_ota_bridge_spool_items')) > 0) await sleep(20)
    figures.spoolToWorker.push(rate(MESSAGES, since))
    for (const client of clients) client.end(true)
    await bridge.end()
    await worker.close()
  }
  return figures
}

/** The plugin lets nobody in before the bridge has read the credentials: they try again. */
const connectAll = (mqttUrl: string) =>
  Promise.all(
    USERNAMES.map((username) => {
      const client = connect(mqttUrl, {
        ...{ username, password: '', clientId: username },
        ...{ reconnectPeriod: 100, reconnectOnConnackError: true },
      })
      client.on('error', () => {})
      return new Promise<MqttClient>((resolve) => client.once('connect', () => resolve(client)))
    }),
  )

/** Resident memory of the bridge: at rest, with the whole backlog in its spool, and when that is gone. */
async function memory(directory: string): Promise<{ rest: number; most: number; after: number }> {
  const worker = await startInstantWorker(USERNAMES)
  const bridge = await startBridge(worker, join(directory, 'memory'), {})
  const resident = async () =>
    Math.round((await bridge.figure('process_resident_memory_bytes')) / 1024 / 1024)
  const clients = await connectAll(bridge.mqttUrl)
  const rest = await resident()
  let most = rest
  const watch = async () => {
    most = Math.max(most, await resident())
  }
  const watching = setInterval(() => void watch().catch(() => {}), 200)
  worker.away = true
  await publish(clients, BACKLOG)
  worker.away = false
  while ((await bridge.figure('edge_ota_bridge_spool_items')) > 0) await sleep(200)
  clearInterval(watching)
  const after = await resident()
  for (const client of clients) client.end(true)
  await bridge.end()
  await worker.close()
  return { rest, most, after }
}

const sorted = (values: number[]) => [...values].sort((a, b) => a - b)
const median = (values: number[]) => sorted(values)[Math.floor(values.length / 2)]!
const show = (values: number[]) => `${median(values)} (${sorted(values)[0]}–${sorted(values).at(-1)})`

const directory = mkdtempSync(join(tmpdir(), 'bench-'))
let mosquitto: Mosquitto | undefined
try {
  const socket = join(directory, 'plugin.sock')
  mosquitto = await startMosquitto({
    ...{ directory: join(directory, 'mosquitto'), socket, bridgePassword: 'bench', persistence: false },
  })
  const joined = {
    MQTT_URL: mosquitto.url,
    MQTT_USERNAME: LOGIN,
    MQTT_PASSWORD: 'bench',
    PLUGIN_SOCKET: socket,
  }
  const figures = {
    mosquitto: await throughput(joined, directory),
    embeddedNormal: await throughput({ SPOOL_SYNC: 'normal' }, directory),
    embeddedFull: await throughput({ SPOOL_SYNC: 'full' }, directory),
    memoryMiB: { backlog: BACKLOG, ...(await memory(directory)) },
  }
  console.log(
    `${MESSAGES} messages, ${PUBLISHERS} publishers, median of ${RUNS} runs (least–most), messages/s\n`,
  )
  console.log('| broker | SPOOL_SYNC | publish to spool | spool to Worker |\n|---|---|---|---|')
  for (const [name, sync, { publishToSpool, spoolToWorker }] of [
    ['Mosquitto', 'normal', figures.mosquitto],
    ['embedded', 'normal', figures.embeddedNormal],
    ['embedded', 'full', figures.embeddedFull],
  ] as const) {
    console.log(`| ${name} | ${sync} | ${show(publishToSpool)} | ${show(spoolToWorker)} |`)
  }
  const { backlog, rest, most, after } = figures.memoryMiB
  console.log(
    `\nMemory of the bridge over a backlog of ${backlog}: ${rest} MiB at rest, at most ${most}, ${after} after it`,
  )
  if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(figures, null, 2))
} finally {
  await mosquitto?.kill()
  rmSync(directory, { recursive: true, force: true })
}
process.exit(0)
