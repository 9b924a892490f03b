import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { hasMosquitto } from '../e2e/mosquitto.ts'
import { billOf, perMillion, totalOf } from './bill.ts'
import { presign, upload } from './bulk.ts'
import { playCampaign, reports } from './campaign.ts'
import { fanOut } from './fan-out.ts'
import { makeFleet } from './fleet.ts'
import { latency, load } from './latency.ts'
import { startLocal } from './local.ts'
import { connectPlayer } from './player.ts'
import { profiled } from './profile.ts'
import { reads } from './reads.ts'
import { median, spread } from './statistics.ts'
import { progressOf, uplinkHttp } from './uplink-http.ts'
import { uplinkMqtt } from './uplink-mqtt.ts'
import { type BrokerName, withBridge } from './with-bridge.ts'

// `npm run bench`: measures the whole system on this machine, load generator included. Each figure is the median of its
// runs, with the least and the most.

const { quick, json } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } },
}).values
const RUNS = quick ? 3 : 5
const LARGE_RUNS = quick ? 1 : 3
const ROUNDS = quick ? 40 : 100
const REQUESTS = quick ? 20 : 100
const CAMPAIGN_DEVICES = quick ? 10_000 : 100_000
/** Messages/s: half of what HTTP batches of 100 reached here. */
const HALF_LOAD = 5_000
/** Number of messages in the profiled run. */
const PROFILED = 50_000

const figures: Record<string, unknown> = {}

function say(title: string, rows: Record<string, string | number>): void {
  console.log(`\n| ${title} | |\n|---|---|`)
  for (const [name, value] of Object.entries(rows)) console.log(`| ${name} | ${value} |`)
}

const medians = (runs: Record<string, number[]>) =>
  Object.fromEntries(Object.entries(runs).map(([name, values]) => [name, median(values)]))
const spreads = (runs: Record<string, number[]>) =>
  Object.fromEntries(Object.entries(runs).map(([name, values]) => [name, spread(values)]))

async function measureSpeed(): Promise<void> {
  const local = await startLocal({ isMetered: false })
  const memory: Record<string, number> = { 'workerd at rest': Math.round(local.memoryMiB()) }
  const player = await connectPlayer(local)

  const perSecond: Record<string, number[]> = {}
  const first: Record<string, number[]> = {}
  const last: Record<string, number[]> = {}
  const imports: number[] = []
  const large = []
  for (const [devices, runs] of [
    [1_000, RUNS],
    [10_000, RUNS],
    [100_000, LARGE_RUNS],
  ] as const) {
    for (let run = 0; run < runs; run++) {
      const { fleet, taskId, figures } = await fanOut(local, player, devices)
      for (const [to, value] of [
        [perSecond, figures.devicesPerSecond],
        [first, figures.firstMs],
        [last, figures.lastMs],
      ] as const) {
        to[devices] ??= []
        to[devices].push(value)
      }
      if (devices >= 10_000) imports.push(fleet.importRate)
      large.push({ fleet, taskId })
    }
  }
  memory[`workerd with ${large.reduce((sum, { fleet }) => sum + fleet.devices.length, 0)} devices`] =
    Math.round(local.memoryMiB())
  figures.fanoutPerSecond = medians(perSecond)
  figures.firstNoticeMs = medians(first)
  figures.lastNoticeMs = medians(last)
  figures.importPerSecond = median(imports)
  say('fan-out, devices/s', spreads(perSecond))
  say('first notice, ms', spreads(first))
  say('last notice, ms', spreads(last))

  const { fleet, taskId } = large.at(-1)!
  await player.settled()
  const http = await uplinkHttp(player, fleet, RUNS)
  figures.uplinkHttp = medians(http)
  say('uplink by HTTP batches, messages/s by batch size', spreads(http))
  const [, profile] = await profiled(local.inspectorPort, () =>
    player.say(progressOf(fleet, PROFILED, 40), 1000, 2),
  )
  const share = (name: string) =>
    Math.round((1000 * profile.total.find((each) => each.name === name)!.ms) / PROFILED)
  figures.microsecondsPerMessage = { all: share('(root)'), object: share('deliver') }
  say(
    'processor time of a message in batches of 1000, µs',
    figures.microsecondsPerMessage as Record<string, number>,
  )

  const device = (await local.api.devices(`productId=${fleet.productId}&limit=1`)).items[0]!
  const ids = { productId: fleet.productId, packageId: fleet.packageId, taskId, deviceId: device.id }
  figures.readsMs = await reads(local, ids, REQUESTS)
  say(
    `first byte with ${fleet.devices.length} devices and a task over all, ms: p50, p99`,
    Object.fromEntries(
      Object.entries(figures.readsMs as Record<string, { p50: number; p99: number }>).map(
        ([path, { p50, p99 }]) => [path, `${p50}, ${p99}`],
      ),
    ),
  )

  const uploads: number[] = []
  for (let run = 0; run < RUNS; run++) uploads.push(await upload(local, fleet))
  const links: number[] = []
  for (let run = 0; run < RUNS; run++) links.push(await presign())
  figures.uploadMBPerSecond = median(uploads)
  figures.presignPerSecond = median(links)
  say('bulk', {
    'import, CSV rows/s': spread(imports),
    'upload with digest, MB/s': spread(uploads),
    'presigned links/s': spread(links),
  })

  // The player gives up its lease, so that the real bridge gets it.
  await player.close()
  const brokers: BrokerName[] = hasMosquitto() ? ['embedded', 'mosquitto'] : ['embedded']
  const mqtt: Record<string, number[]> = {}
  for (const broker of brokers) mqtt[broker] = await uplinkMqtt(local, fleet, broker, RUNS)
  figures.uplinkMqtt = medians(mqtt)
  say('uplink over MQTT, messages/s by broker', spreads(mqtt))

  const single = await makeFleet(local, 1)
  const idle = await latency(local, single, ROUNDS)
  const background = await connectPlayer(local, { isActive: false })
  const busy = load(background, fleet, HALF_LOAD)
  const loaded = await latency(local, await makeFleet(local, 1), ROUNDS)
  await busy.stop()
  await background.close()
  figures.noticeLatencyMs = idle.notice
  figures.latencyMs = { idle, [`at ${HALF_LOAD} messages/s`]: loaded }
  const shown = ({ p50, p95, p99 }: { p50: number; p95: number; p99: number }) => `${p50}, ${p95}, ${p99}`
  say('latency, ms: p50, p95, p99', {
    'notice, idle': shown(idle.notice),
    'notice, half load': shown(loaded.notice),
    'progress in the API, idle': shown(idle.api),
    'progress in the API, half load': shown(loaded.api),
    'progress on the page, idle': shown(idle.page),
    'progress on the page, half load': shown(loaded.page),
  })
  await withBridge(local, 'embedded', async (bridge) => {
    memory['bridge at rest'] = Math.round(
      (await bridge.figure('process_resident_memory_bytes')) / 1024 / 1024,
    )
  })
  figures.memoryMiB = memory
  say('resident memory, MiB', memory)
  await local.close()
}

async function measureCost(): Promise<void> {
  const local = await startLocal({ isMetered: true })
  const player = await connectPlayer(local)
  const fleet = await makeFleet(local, CAMPAIGN_DEVICES)
  await player.say(reports(fleet, 'v1.0.0'), 1000, 2)
  await local.resetCounters()
  await playCampaign(local, player, fleet, { batchSize: 100, inFlight: 4 })
  const bill = perMillion(billOf(await local.counters(), CAMPAIGN_DEVICES), CAMPAIGN_DEVICES)
  figures.costPerMillionUsd = Math.round(totalOf(bill) * 100) / 100
  figures.billUsd = bill
  say(`a campaign of a million devices, computed from ${CAMPAIGN_DEVICES}, USD`, {
    ...bill,
    total: figures.costPerMillionUsd as number,
  })
  await player.close()
  await local.close()
}

console.log(
  'Median (least–most) of the runs; load generator, broker, bridge and workerd on the same machine.',
)
await measureSpeed()
await measureCost()
if (json !== undefined) writeFileSync(json, `${JSON.stringify(figures, null, 2)}\n`)
process.exit(0)
