import { execFileSync, fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type BridgeProcess, startBridge } from './bridge-process.ts'
import type { Crowd, FromCrowd } from './crowd.ts'
import { startInstantWorker } from './instant-worker.ts'
import { median } from './statistics.ts'

// `npm run bench:connections`: 20,000 devices connect to the embedded broker and subscribe, then lose their connections
// all at once and come back, as after a power cut. The devices are raw sockets in processes of their own.

const { connections } = parseArgs({ options: { connections: { type: 'string', default: '20000' } } }).values
const STORMS = 3
/** Files of the bridge that are no connections: spool, credentials, hub, metrics. */
const OTHER_FILES = 100
const CONNECTIONS_PER_CROWD = 5_000
const MIB = 1024 * 1024

// Node raises its soft limit of open files to the hard one by itself.
const openFiles =
  Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || Number.POSITIVE_INFINITY
const wanted = Math.min(Number(connections), openFiles - OTHER_FILES)
if (wanted < Number(connections)) {
  console.log(`This shell allows ${openFiles} open files (ulimit -Hn), so it is ${wanted} connections.\n`)
}

const usernames = Array.from({ length: wanted }, (_, n) => `crowd-${n}`)

/** Starts the processes of the devices. Each connects from an address of its own, for its own ports. */
function startCrowds(port: number): Crowd[] {
  return Array.from({ length: Math.ceil(wanted / CONNECTIONS_PER_CROWD) }, (_, n) => {
    const share = [n * CONNECTIONS_PER_CROWD, Math.min(wanted, (n + 1) * CONNECTIONS_PER_CROWD)]
    const child = fork('test/bench/crowd.ts', [String(port), `127.0.0.${n + 2}`, ...share.map(String)])
    process.on('exit', () => child.kill('SIGKILL'))
    return {
      do: (what) =>
        new Promise<FromCrowd>((resolve) => {
          child.once('message', (message) => resolve(message as FromCrowd))
          child.send(what)
        }),
    }
  })
}

interface Wave {
  seconds: number
  perSecond: number
  /** Connections that were refused or cut and tried again. */
  tries: number
  /** From a device's first try to its SUBACK, ms. */
  p50: number
  p99: number
  /** Processor time of the bridge for each connection: it depends less on what else the machine does. */
  cpuMs: number
}

async function connectAll(crowds: Crowd[], bridge: BridgeProcess): Promise<Wave> {
  const cpuSeconds = () => bridge.figure('process_cpu_seconds_total')
  const cpuBefore = await cpuSeconds()
  const since = performance.now()
  const all = await Promise.all(crowds.map((crowd) => crowd.do('connect')))
  const seconds = (performance.now() - since) / 1000
  const times = all.flatMap(({ times }) => times).sort((a, b) => a - b)
  return {
    seconds,
    perSecond: Math.round(wanted / seconds),
    tries: all.reduce((sum, { tries }) => sum + tries, 0),
    p50: times[Math.floor(times.length / 2)] ?? Number.NaN,
    p99: times[Math.floor(times.length * 0.99)] ?? Number.NaN,
    cpuMs: (1000 * ((await cpuSeconds()) - cpuBefore)) / wanted,
  }
}

const figureMiB = async (bridge: BridgeProcess, name: string) => Math.round((await bridge.figure(name)) / MIB)

async function untilQuiet(bridge: BridgeProcess): Promise<void> {
  while ((await bridge.figure('edge_ota_bridge_spool_depth')) > 0) await sleep(100)
}

function row(
  name: string,
  { seconds, perSecond, tries, p50, p99, cpuMs }: Wave,
  rss: number,
  heap: number,
): void {
  const cells = [
    name,
    `${seconds.toFixed(1)} s`,
    perSecond,
    Math.round(p50),
    Math.round(p99),
    tries,
    `${cpuMs.toFixed(2)} ms`,
    `${rss} MiB`,
    `${heap} MiB`,
  ]
  console.log(`| ${cells.join(' | ')} |`)
}

const directory = mkdtempSync(join(tmpdir(), 'bench-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const worker = await startInstantWorker(usernames)
const bridge = await startBridge(worker, directory, { MAX_CONNECTIONS: String(wanted + OTHER_FILES) })
const memory = async () =>
  [
    await figureMiB(bridge, 'process_resident_memory_bytes'),
    await figureMiB(bridge, 'nodejs_heap_size_used_bytes'),
  ] as const
await untilQuiet(bridge)
const [restRss, restHeap] = await memory()
const crowds = startCrowds(Number(new URL(bridge.mqttUrl).port))
console.log(
  '| | all connected | a second | p50, ms | p99, ms | tried again | bridge: processor, each | resident | its heap |',
)
console.log('|---|---|---|---|---|---|---|---|---|')
console.log(`| at rest | | | | | | | ${restRss} MiB | ${restHeap} MiB |`)
row(`${wanted} connect`, await connectAll(crowds, bridge), ...(await memory()))
await untilQuiet(bridge)
const storms: Wave[] = []
for (let storm = 1; storm <= STORMS; storm++) {
  await Promise.all(crowds.map((crowd) => crowd.do('cut')))
  const wave = await connectAll(crowds, bridge)
  storms.push(wave)
  row(`storm ${storm}`, wave, ...(await memory()))
  await untilQuiet(bridge)
}
const open = readFileSync(`/proc/${bridge.pid}/limits`, 'utf8').match(/Max open files +(\d+)/)?.[1]
console.log(
  `\nMedian of the storms: ${median(storms.map(({ perSecond }) => perSecond))} connections a second.`,
)
console.log(`Open files allowed to the bridge: ${open}. Presence handed over: ${worker.taken} items.`)
process.exit(0)
