import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { MqttClient } from 'mqtt'
import { hasMosquitto } from '../e2e/mosquitto.ts'
import type { BridgeProcess } from './bridge-process.ts'
import { makeFleet } from './fleet.ts'
import { type Local, startLocal } from './local.ts'
import type { NoiseKind } from './noise-maker.ts'
import { connectDevice } from './publishers.ts'
import { percentiles, spread } from './statistics.ts'
import { type BrokerName, untilHandedOver, withBridge } from './with-bridge.ts'

// `npm run bench:noise`: one device offers 10,000 messages/s beside 1,000 honest ones, through broker, bridge and Worker.
// An honest device reports its version and asks what is due every 10 s. Measured is the way of a request to the Worker
// and of its answer back to the device. Quiet and noisy phases take turns.

const { quick, 'without-shares': withoutShares } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    'without-shares': { type: 'boolean', default: false },
  },
}).values
/** Without shares the backlog of one round would spoil the next. */
const ROUNDS = withoutShares ? 1 : quick ? 2 : 5
const PHASE_MS = quick ? 10_000 : 20_000
const HONEST = 1_000
const EVERY_MS = 10_000
const NOISE_PER_SECOND = 10_000
/** How long the answers and the spool are waited for after a phase. */
const WAIT_AT_MOST_MS = 10_000
const KINDS: NoiseKind[] = ['reports', 'requests']

interface Phase {
  p50: number
  p99: number
  /** Requests that had no answer by the end of the phase and some seconds more. */
  lost: number
  /** Items in the spool by then. */
  backlog: number
  rows: number
  offered: number
}

/** An honest device: it asks and waits for the answer under its id. */
interface Honest {
  client: MqttClient
  waiting: Map<string, (at: number) => void>
}

async function connectHonest(bridge: BridgeProcess, username: string): Promise<Honest> {
  const client = await connectDevice(bridge.mqttUrl, username)
  const waiting: Honest['waiting'] = new Map()
  client.on('message', (_topic, payload) => {
    const { id } = JSON.parse(String(payload))
    waiting.get(id)?.(performance.now())
    waiting.delete(id)
  })
  await client.subscribeAsync(`ota/device/inform/${username}`, { qos: 1 })
  return { client, waiting }
}

let asked = 0

async function ask({ client, waiting }: Honest): Promise<number> {
  const id = String(++asked)
  const since = performance.now()
  const answered = new Promise<number>((resolve) => waiting.set(id, resolve))
  client.publish('ota/device/inform', '{"params":{"version":"v1.0.0"}}', { qos: 1 })
  client.publish('ota/device/request', JSON.stringify({ id }), { qos: 1 })
  return (await answered) - since
}

function makeNoise(bridge: BridgeProcess, username: string, kind: NoiseKind) {
  const { port } = new URL(bridge.mqttUrl)
  const args = ['test/bench/noise-maker.ts', port, username, kind, String(NOISE_PER_SECOND)]
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let offered = 0
  child.stdout?.on('data', (chunk) => {
    offered = Number(String(chunk).trim().split('\n').at(-1))
  })
  const end = () => child.kill('SIGKILL')
  process.on('exit', end)
  return {
    offered: () => offered,
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      end()
      await ended
      process.off('exit', end)
    },
  }
}

async function phase(
  local: Local,
  bridge: BridgeProcess,
  honest: Honest[],
  noise?: { username: string; kind: NoiseKind },
): Promise<Phase> {
  await local.resetCounters()
  const noisy = noise && makeNoise(bridge, noise.username, noise.kind)
  const times: number[] = []
  let count = 0
  const began = performance.now()
  while (performance.now() - began < PHASE_MS) {
    const device = honest[count++ % honest.length]!
    void ask(device).then((ms) => times.push(ms))
    await sleep(Math.max(0, began + (count * EVERY_MS) / HONEST - performance.now()))
  }
  await noisy?.stop()
  const depth = () => bridge.figure('edge_ota_bridge_spool_depth')
  for (const deadline = performance.now() + WAIT_AT_MOST_MS; performance.now() < deadline; await sleep(50)) {
    if (times.length === count && (await depth()) === 0) break
  }
  const { d1RowsWritten, objectRowsWritten } = await local.counters()
  const { p50, p99 } = percentiles(times)
  return {
    p50,
    p99,
    lost: count - times.length,
    backlog: await depth(),
    rows: d1RowsWritten + objectRowsWritten,
    offered: noisy?.offered() ?? 0,
  }
}

async function measure(local: Local, broker: BrokerName): Promise<void> {
  const fleet = await makeFleet(local, HONEST + ROUNDS * KINDS.length)
  const tokens = fleet.devices.map(({ accessToken }) => accessToken)
  await withBridge(
    local,
    broker,
    async (bridge) => {
      const honest = await Promise.all(tokens.slice(0, HONEST).map((token) => connectHonest(bridge, token)))
      await untilHandedOver(bridge)
      await phase(local, bridge, honest) // V8 compiles the code
      const quiet: Phase[] = []
      const noisy: Record<string, Phase[]> = {}
      for (let round = 0; round < ROUNDS; round++) {
        quiet.push(await phase(local, bridge, honest))
        for (const kind of KINDS) {
          const username = tokens[HONEST + round * KINDS.length + KINDS.indexOf(kind)]!
          noisy[kind] ??= []
          noisy[kind].push(await phase(local, bridge, honest, { username, kind }))
        }
      }
      for (const { client } of honest) client.end(true)
      print(broker, quiet, noisy)
    },
    { withoutShares },
  )
}

const of = (phases: Phase[], name: keyof Phase) => phases.map((each) => each[name])

function print(broker: BrokerName, quiet: Phase[], noisy: Record<string, Phase[]>): void {
  const ratio = (phases: Phase[]) =>
    phases.map(({ p99 }, round) => Math.round((10 * p99) / quiet[round]!.p99) / 10)
  for (const [name, phases] of [['quiet', quiet], ...Object.entries(noisy)] as [string, Phase[]][]) {
    const cells = [
      `${broker}, ${name}`,
      spread(of(phases, 'p50')),
      spread(of(phases, 'p99')),
      spread(ratio(phases)),
      spread(of(phases, 'lost')),
      spread(of(phases, 'backlog')),
      spread(of(phases, 'offered')),
      spread(of(phases, 'rows')),
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
}

const local = await startLocal({ isMetered: true })
process.once('SIGINT', () => process.exit(1))
process.once('SIGTERM', () => process.exit(1))
console.log(
  `Median (least–most) of ${ROUNDS} rounds of ${PHASE_MS / 1000} s${withoutShares ? ', without shares' : ''}:\n`,
)
console.log(
  '| | p50, ms | p99, ms | p99, times quiet | not answered | left in the spool | offered noise | rows written |',
)
console.log('|---|---|---|---|---|---|---|---|')
await measure(local, 'embedded')
if (hasMosquitto()) await measure(local, 'mosquitto')
await local.close()
process.exit(0)
