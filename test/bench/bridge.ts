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

// `npm run bench:bridge`: the bridge alone, with a Worker that takes everything at once. Its files are in TMPDIR, which
// has to be on a disk for SPOOL_SYNC to mean anything.

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

/** A bridge of its own, with a Worker that is away until `use` says otherwise. */
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
  const bridge = await startBridge(worker, place, env)
  const publishers = await connectPublishers(bridge.mqttUrl)
  // What is said of who came is gone first.
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

/** First the Worker is away until all is in the spool; then it takes it. */
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
    // It tries again within seconds: counted is from the first batch that is taken.
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

/** Resident memory (MiB) of the bridge: at rest, most while the spool fills, most while it empties, and a moment later. */
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

/** One after the other, each figure by its name. */
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
