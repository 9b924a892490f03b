import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { hasMosquitto, startMosquitto } from '../e2e/mosquitto.ts'
import { type BridgeProcess, startBridge } from './bridge-process.ts'
import { startInstantWorker } from './instant-worker.ts'
import { connectPublishers, type Publishers, USERNAMES } from './publishers.ts'
import { measureSpool } from './spool.ts'
import { printTable } from './table.ts'
import { PLUGIN_WITHOUT_SHARES, WITHOUT_SHARES } from './without-shares.ts'

// `npm run bench:bridge`: measures the bridge alone, with a Worker that takes everything at once. The spool is in TMPDIR,
// which must be on a disk for SPOOL_SYNC to have an effect.

const { quick, json } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } },
}).values
const RUNS = quick ? 3 : 5
const MESSAGES = quick ? 20_000 : 50_000
const BACKLOG = quick ? 100_000 : 500_000
const BACKLOG_RUNS = quick ? 1 : 3
const MIB = 1024 * 1024

const rate = (count: number, since: number) => Math.round(count / ((performance.now() - since) / 1000))
const depth = (bridge: BridgeProcess) => bridge.figure('edge_ota_bridge_spool_depth')

/** Runs `use` with a new bridge, whose Worker is away until `use` changes that. */
async function withBridge<T>(
  directory: string,
  env: Record<string, string>,
  use: (
    bridge: BridgeProcess,
    publishers: Publishers,
    worker: { taken: number; away: boolean },
  ) => Promise<T>,
): Promise<T> {
  const worker = await startInstantWorker(USERNAMES)
  const place = mkdtempSync(join(directory, 'run-'))
  const bridge = await startBridge(worker, place, { ...WITHOUT_SHARES, ...env })
  const publishers = await connectPublishers(bridge.mqttUrl)
  // The presence of the publishers is handed over first, so that only messages are measured.
  while ((await depth(bridge)) > 0) await sleep(20)
  worker.away = true
  try {
    return await use(bridge, publishers, worker)
  } finally {
    publishers.end()
    await bridge.kill()
    await worker.close()
    rmSync(place, { recursive: true })
  }
}

/** Measures filling the spool while the Worker is away, then emptying it. */
const throughput = (directory: string, env: Record<string, string>) =>
  withBridge(directory, env, async (bridge, publishers, worker) => {
    const received = () => bridge.figure('edge_ota_bridge_messages_total')
    const batches = () => bridge.figure('edge_ota_bridge_batches_total')
    const [before, batchesBefore, takenBefore] = [await received(), await batches(), worker.taken]
    let since = performance.now()
    await publishers.publish(MESSAGES)
    while ((await received()) - before < MESSAGES) await sleep(20)
    const publishToSpool = rate(MESSAGES, since)
    worker.away = false
    // The bridge retries within seconds; the time counts from the first batch that is taken.
    while (worker.taken === takenBefore) await sleep(1)
    since = performance.now()
    const left = MESSAGES - (worker.taken - takenBefore)
    while ((await depth(bridge)) > 0) await sleep(20)
    return {
      publishToSpool,
      spoolToWorker: rate(left, since),
      perBatch: Math.round((worker.taken - takenBefore) / ((await batches()) - batchesBefore)),
    }
  })

/** Resident memory of the bridge in MiB: at rest, the most while the spool fills and empties, and right after. */
const memory = (directory: string) =>
  withBridge(directory, {}, async (bridge, publishers, worker) => {
    const resident = async () => Math.round((await bridge.figure('process_resident_memory_bytes')) / MIB)
    const figures = { rest: await resident(), filling: 0, draining: 0, after: 0 }
    const watch = async (phase: 'filling' | 'draining', work: Promise<void>) => {
      let isOver = false
      void work.finally(() => {
        isOver = true
      })
      while (!isOver) {
        figures[phase] = Math.max(figures[phase], await resident())
        await sleep(200)
      }
      await work
    }
    await watch('filling', publishers.publish(BACKLOG))
    worker.away = false
    const drained = async () => {
      while ((await depth(bridge)) > 0) await sleep(200)
    }
    await watch('draining', drained())
    return { ...figures, after: await resident() }
  })

type Figures = Record<string, number[]>

/** Runs a measurement several times; returns the values of each figure by its name. */
async function repeat(times: number, run: () => Promise<Record<string, number>>): Promise<Figures> {
  const figures: Figures = {}
  for (let n = 0; n < times; n++) {
    for (const [name, value] of Object.entries(await run())) {
      figures[name] ??= []
      figures[name].push(value)
    }
  }
  return figures
}

async function bench(directory: string): Promise<Record<string, Record<string, Figures>>> {
  const bridge: Record<string, Figures> = {}
  if (hasMosquitto()) {
    const socket = join(directory, 'plugin.sock')
    const mosquitto = await startMosquitto({
      directory: join(directory, 'mosquitto'),
      socket,
      bridgePassword: 'bench',
      persistence: true,
      more: PLUGIN_WITHOUT_SHARES,
    })
    process.on('exit', () => {
      if (mosquitto.pid() > 0) process.kill(mosquitto.pid(), 'SIGKILL')
    })
    const { username, password } = mosquitto.login
    const joined = { MQTT_URL: mosquitto.url, MQTT_USERNAME: username, MQTT_PASSWORD: password }
    bridge.Mosquitto = await repeat(RUNS, () => throughput(directory, { ...joined, PLUGIN_SOCKET: socket }))
    await mosquitto.kill()
  }
  const spool: Record<string, Figures> = {}
  for (const sync of ['normal', 'full'] as const) {
    bridge[`embedded, SPOOL_SYNC=${sync}`] = await repeat(RUNS, () =>
      throughput(directory, { SPOOL_SYNC: sync }),
    )
    for (const together of [1, 100, 1000]) {
      spool[`${sync}, ${together} in a transaction`] = await repeat(RUNS, async () =>
        measureSpool(directory, sync, together, MESSAGES),
      )
    }
  }
  const backlog = { [`${BACKLOG} messages`]: await repeat(BACKLOG_RUNS, () => memory(directory)) }
  return { bridge, spool, memory: backlog }
}

const directory = mkdtempSync(join(tmpdir(), 'bench-'))
const clean = () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
process.on('exit', clean)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
const figures = await bench(directory)
console.log(
  `Median (least–most). Messages/s over ${MESSAGES} messages, ${USERNAMES.length} publishers, ${RUNS} runs:\n`,
)
printTable('broker', figures.bridge!)
console.log('\nThe spool alone, messages/s:\n')
printTable('SPOOL_SYNC', figures.spool!)
console.log(
  `\nResident memory of the bridge (MiB) while the Worker is away, and after; ${BACKLOG_RUNS} runs:\n`,
)
printTable('backlog', figures.memory!)
if (json !== undefined) writeFileSync(json, JSON.stringify(figures, null, 2))
process.exit(0)
