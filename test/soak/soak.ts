import { setTimeout as sleep } from 'node:timers/promises'
import { ensurePackage, ensureProduct } from '../fleet/setup.ts'
import { settle } from './compare.ts'
import { type Kill, killAtRandom } from './kills.ts'
import { readOptions, type SoakOptions } from './options.ts'
import { startPace } from './pace.ts'
import { type Player, startPlayer } from './player.ts'
import { report } from './report.ts'
import { scriptOf } from './script.ts'
import { type SoakSystem, startSystem } from './system.ts'

// `npm run soak`: kills processes while devices publish, then compares what the devices said with what their task has.

const TARGET = 'v2.0.0'
const CONNECT_AT_ONCE = 100
const TOLD_WITHIN_MS = 180_000
/** The longest time without an acknowledgement to any device: enough to reconnect after a kill. */
const SILENT_MS = 180_000
/** The part of all messages that may wait for the Worker at a time. */
const WINDOW = 1 / 4

async function run(options: SoakOptions): Promise<boolean> {
  const print = (line: string) => {
    if (!options.quiet) console.log(line)
  }
  const system = await startSystem(options)
  const players: Player[] = []
  const progress = {
    said: () => players.reduce((sum, { counts }) => sum + counts.acknowledged, 0),
    taken: () => system.tap.count,
  }
  const pace = startPace(progress, Math.ceil(options.messages * WINDOW))
  try {
    const task = await prepare(system, options, players)
    print(`${players.length} devices have their notice`)
    const kills: Kill[] = []
    const talking = Promise.all(players.map((player) => player.play(pace.turn)))
    await killAtRandom(system.kill, options, progress, kills, print)
    await Promise.race([talking, silence(progress.said)])
    const faults = await settle(system, task, players)
    return report(system.tap, options, players, kills, faults, print)
  } finally {
    pace.end()
    for (const player of players) player.end()
    await system.close()
  }
}

/** Creates devices, package and task. Returns the task's id when every device has its notice. */
async function prepare(
  { api, mqttUrl }: SoakSystem,
  options: SoakOptions,
  players: Player[],
): Promise<string> {
  const product = await ensureProduct(api, 'Soak')
  const names = Array.from({ length: options.devices }, (_, n) => `soak-device-${String(n).padStart(6, '0')}`)
  const csv = ['number,access_token', ...names.map((name) => `${name},${name}`)].join('\n')
  await api.importDevices(product.id, csv)
  const pkg = await ensurePackage(api, {
    productId: product.id,
    version: TARGET,
    module: 'default',
    size: 1024,
  })
  const each = Math.floor(options.messages / options.devices)
  const more = options.messages % options.devices
  for (const [n, name] of names.entries()) {
    players.push(startPlayer(mqttUrl, name, scriptOf(n, each + (n < more ? 1 : 0), TARGET)))
    if (n % CONNECT_AT_ONCE === CONNECT_AT_ONCE - 1) await sleep(100)
  }
  const task = await api.createTask({ packageId: pkg.id, name: 'Soak', devices: 'all' })
  const late = sleep(TOLD_WITHIN_MS, 'late', { ref: false })
  const told = await Promise.race([Promise.all(players.map((player) => player.told)), late])
  if (told === 'late') throw new Error('not every device got its notice in time')
  return task.id
}

/** Rejects when no device has had an acknowledgement for `SILENT_MS`. */
async function silence(said: () => number): Promise<never> {
  for (let last = -1; said() !== last; await sleep(SILENT_MS, undefined, { ref: false })) last = said()
  throw new Error(`devices wait for acknowledgements that do not come, after ${said()} messages`)
}

// The exit handlers end this process's children.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
try {
  const isWell = await run(readOptions(process.argv.slice(2)))
  process.exit(isWell ? 0 : 1)
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exit(1)
}
