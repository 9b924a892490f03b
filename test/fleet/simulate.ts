import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { Api } from './api-client.ts'
import { createDisplay, type Display, inOneLine, number, seconds } from './display.ts'
import { type Fleet, startFleet } from './fleet.ts'
import { identitiesOf } from './identities.ts'
import { interruptSignal } from './interrupt.ts'
import { ensureMaker } from './maker.ts'
import { helpText, readOptions, type SimulateOptions } from './options.ts'
import { ensurePackage, ensureProduct, importFleet } from './setup.ts'
import { connectApi, findTarget } from './target.ts'
import { type DeviceTruth, tally } from './truth.ts'
import { findDifferences, watchTask } from './watch.ts'

const POLL_INTERVAL_MS = 500
const MAX_SHOWN_DIFFERENCES = 10

/** Waits until the devices have connected and reported their version. */
async function showStart(fleet: Fleet, count: number, display: Display, signal: AbortSignal): Promise<void> {
  const begun = performance.now()
  const started = fleet.started().then(() => true)
  for (;;) {
    const ready = await Promise.race([started, delay(POLL_INTERVAL_MS, false, { signal })])
    const { connects, lostConnections, lastRefusal } = fleet.stats
    const failed = lastRefusal === null ? '' : `; ${number(lostConnections)} tries failed: ${lastRefusal}`
    const elapsed = seconds(performance.now() - begun)
    const line = `${number(Math.min(connects, count))} of ${number(count)} devices connected, ${elapsed}${failed}`
    display.update([line], line)
    if (ready) return display.end()
  }
}

/** Creates a task for the fleet and follows it; false if the server's report differs from what the devices did. */
async function upgrade(
  api: Api,
  packageId: string,
  fleet: Fleet,
  options: SimulateOptions,
  signal: AbortSignal,
): Promise<boolean> {
  const display = createDisplay(process.stdout)
  const begun = performance.now()
  const numbers = [...fleet.truth().keys()]
  const task = await api.createTask({ packageId, name: `Upgrade to ${options.to}`, devices: { numbers } })
  const ended = await watchTask(api, task.id, fleet, display, signal).finally(display.end)
  const elapsed = performance.now() - begun
  const differences = await findDifferences(api, task.id, fleet)

  console.log(`\nTask ${task.id} is ${ended.status} after ${seconds(elapsed)}: ${inOneLine(ended.counts)}.`)
  showFleet(fleet)
  if (differences.length === 0) {
    console.log(`All ${number(numbers.length)} devices ended where the simulator says they did.`)
    return true
  }
  console.log(`${number(differences.length)} devices differ from what the simulator says:`)
  for (const { number, truth, reported } of differences.slice(0, MAX_SHOWN_DIFFERENCES)) {
    console.log(`  ${number}: ${truth}; the report says ${reported}`)
  }
  return false
}

const failureOf = ({ state, step, detail }: DeviceTruth) =>
  state === 'failure' ? `${step} (${detail})` : undefined

function countBy<T>(items: Iterable<T>, keyOf: (item: T) => string | undefined): Map<string, number> {
  const counts = new Map<string, number>()
  for (const item of items) {
    const key = keyOf(item)
    if (key !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return counts
}

function showFleet(fleet: Fleet): void {
  const { stats } = fleet
  const states = Object.entries(tally(fleet.truth().values())).filter(([, count]) => count > 0)
  console.log(`Fleet: ${states.map(([state, count]) => `${number(count)} ${state}`).join(', ')}.`)
  for (const [reason, count] of countBy(fleet.truth().values(), failureOf)) {
    console.log(`  ${number(count)} failed with ${reason}`)
  }
  console.log(
    `${number(stats.acknowledged)} messages up, ${number(stats.notices)} notices down: ` +
      `${number(stats.messagesPerSecond)} messages/s. ${number(stats.downloads)} downloads, ` +
      `${(stats.downloadedBytes / 1e6).toFixed(1)} MB, ${number(stats.resumes)} resumed; ` +
      `${number(stats.lostConnections)} connections lost.`,
  )
  if (stats.unreadable > 0) console.log(`${number(stats.unreadable)} messages down could not be read.`)
}

async function simulate(options: SimulateOptions, signal: AbortSignal): Promise<boolean> {
  const target = findTarget(options)
  const api = await connectApi(target)
  const name = options.product ?? `Simulated ${new Date().toISOString().slice(0, 19)}`
  const product = await ensureProduct(api, name)
  const devices = identitiesOf(options.devices, product.id, target.key)
  const begun = performance.now()
  const { created, updated } = await importFleet(api, product.id, devices)
  console.log(
    `Product "${product.name}" (${product.id}): ${number(created)} devices created, ` +
      `${number(updated)} were there, ${seconds(performance.now() - begun)}.`,
  )
  const { behaviour, seed, maxConnects, maxDownloads } = options
  const module = behaviour.module!
  const maker = options.sign ? await ensureMaker(api, product, target.key) : undefined
  const wanted = { productId: product.id, version: options.to, module, size: options.size }
  const pkg = options.withTask ? await ensurePackage(api, wanted, maker) : undefined

  const fleet = startFleet({
    mqttUrl: target.mqttUrl,
    devices,
    behaviour: { ...behaviour, trust: maker?.trust ?? null },
    seed,
    maxConnects,
    maxDownloads,
  })
  try {
    const prompt = Math.round(options.devices * (1 - behaviour.startLate!))
    await showStart(fleet, prompt, createDisplay(process.stdout), signal)
    if (pkg) return await upgrade(api, pkg.id, fleet, options, signal)
    console.log(`The devices wait for tasks of product ${product.id}. Ctrl-C ends them.`)
    await once(signal, 'abort')
    showFleet(fleet)
    return true
  } catch (error) {
    if (!signal.aborted) throw error
    console.log('\nInterrupted.')
    showFleet(fleet)
    return false
  } finally {
    fleet.stop()
  }
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options) process.exitCode = (await simulate(options, interruptSignal())) ? 0 : 1
  else console.log(helpText())
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
