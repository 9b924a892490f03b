import { setTimeout as sleep } from 'node:timers/promises'
import { createRandom } from '../fleet/random.ts'
import { ensurePackage, ensureProduct } from '../fleet/setup.ts'
import { readOptions, type SoakOptions } from './options.ts'
import { type Player, startPlayer } from './player.ts'
import { scriptOf } from './script.ts'
import { type SoakSystem, startSystem } from './system.ts'

// Kills what can be killed while devices talk, and compares what they said with what their task says of them.

const TARGET = 'v2.0.0'
const CONNECT_AT_ONCE = 100
const STUCK_MS = 15_000
const SETTLE_WITHIN_MS = 120_000
/** On two cores the local Worker takes some 1,000 messages a second, and stumbles when it is killed. */
const SETTLE_PER_MESSAGE_MS = 3
const TOLD_WITHIN_MS = 180_000
/** What a broker acknowledged so shortly before it was killed it may have had in memory only. */
const BROKER_MEMORY_MS = 10_000

async function run(options: SoakOptions): Promise<boolean> {
  const system = await startSystem(options)
  const players: Player[] = []
  try {
    const task = await prepare(system, options, players)
    const kills: { what: string; at: number }[] = []
    const talking = Promise.all(players.map((player) => player.play()))
    await killAtRandom(system, options, players, kills)
    await talking
    const faults = await settle(system, task, players, options.messages)
    return report(system, options, players, kills, faults)
  } finally {
    for (const player of players) player.end()
    await system.close()
  }
}

/** Devices, package and task; resolves when every device has its notice. */
async function prepare(
  { api, mqttUrl }: SoakSystem,
  options: SoakOptions,
  players: Player[],
): Promise<string> {
  const product = await ensureProduct(api, 'Soak')
  const names = Array.from({ length: options.devices }, (_, n) => `soak-${String(n).padStart(6, '0')}`)
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
  if (told === 'late') throw new Error('not every device was told in time')
  console.log(`${players.length} devices have their notice`)
  return task.id
}

/** Spread over the messages' way to the broker and on to the Worker, each at a random moment of its share. */
async function killAtRandom(
  { kill, tap }: SoakSystem,
  { kills, messages, seed }: SoakOptions,
  players: Player[],
  done: { what: string; at: number }[],
): Promise<void> {
  const random = createRandom(seed)
  const said = () => players.reduce((sum, { counts }) => sum + counts.acknowledged, 0)
  for (let n = 0; n < kills; n++) {
    const moment = (messages * (n + random())) / kills
    await until(moment, () => (said() + handedOver(tap.taken)) / 2)
    const whats = Object.keys(kill)
    const what = whats[Math.floor(random() * whats.length)]!
    const at = Date.now()
    done.push({ what, at })
    const missing = missingOf(players, tap.taken).length
    await kill[what]!()
    console.log(
      `kill ${n + 1}: ${what} at ${said()} messages (${missing} acknowledged, not yet handed over), back after ${Date.now() - at} ms`,
    )
  }
}

/** Waits until it has come so far, or does not come on: what the broker lost never arrives. */
async function until(moment: number, progress: () => number): Promise<void> {
  let last = progress()
  let lastAt = Date.now()
  while (last < moment && Date.now() - lastAt < STUCK_MS) {
    await sleep(10)
    if (progress() === last) continue
    last = progress()
    lastAt = Date.now()
  }
}

const handedOver = (taken: Map<string, Map<string, number>>) =>
  [...taken.values()].reduce((sum, marks) => sum + marks.size, 0)

/** What was acknowledged, and never taken by the Worker. */
const missingOf = (players: Player[], taken: Map<string, Map<string, number>>) =>
  players.flatMap(({ username, acknowledged }) =>
    [...acknowledged]
      .filter(([mark]) => !taken.get(username)?.has(mark))
      .map(([mark, at]) => ({ username, mark, at })),
  )

interface DeviceState {
  status: string
  step: number | null
  events: { kind: string; detail: string | null }[]
}

/** Waits until every device stands in its task as it says; answers what does not come to be so. */
async function settle(
  { api }: SoakSystem,
  taskId: string,
  players: Player[],
  messages: number,
): Promise<string[]> {
  const deadline = Date.now() + SETTLE_WITHIN_MS + messages * SETTLE_PER_MESSAGE_MS
  const ids = await deviceIds(api, taskId)
  let open = players
  let faults: string[] = []
  while (open.length > 0) {
    faults = []
    const still: Player[] = []
    for (const player of open) {
      const path = `/api/v1/tasks/${taskId}/devices/${ids.get(player.username)}`
      const seen = await api.call<DeviceState>('GET', path)
      const fault = faultOf(player, seen)
      if (fault === null) continue
      still.push(player)
      faults.push(`${player.username}: ${fault}`)
    }
    open = still
    if (Date.now() > deadline) break
    if (open.length > 0) await sleep(500)
  }
  return faults
}

async function deviceIds(api: SoakSystem['api'], taskId: string): Promise<Map<string, string>> {
  const ids = new Map<string, string>()
  for await (const { number, deviceId } of api.taskDevices(taskId)) ids.set(number, deviceId)
  return ids
}

/** Null where state, step and the end of the history are what the device said last. */
function faultOf({ script }: Player, { status, step, events }: DeviceState): string | null {
  const { ends, messages } = script
  if (status !== ends.status) return `is ${status}, not ${ends.status}`
  if (step !== ends.step) return `is at step ${step}, not ${ends.step}`
  const heard = events
    .filter(({ kind }) => kind === 'progress' || kind === 'version')
    .map(({ detail }) => detail)
  const said = messages.slice(-3).map(({ body }) => {
    const {
      step: number,
      desc,
      params,
    } = body as { step?: string; desc?: string; params?: { version: string } }
    return params ? params.version : `${number} ${desc}`
  })
  // What came twice stands there twice.
  const distinct = heard.filter((detail, at) => detail !== heard[at - 1]).slice(-said.length)
  return distinct.join() === said.join() ? null : `ends with ${distinct.join(', ')}, not ${said.join(', ')}`
}

function report(
  { tap }: SoakSystem,
  { broker, brokerKill }: SoakOptions,
  players: Player[],
  kills: { what: string; at: number }[],
  faults: string[],
): boolean {
  const sum = (name: keyof Player['counts']) => players.reduce((total, { counts }) => total + counts[name], 0)
  const missing = missingOf(players, tap.taken)
  const brokerKills =
    broker === 'mosquitto' && brokerKill === 'sigkill' ? kills.filter(({ what }) => what === 'broker') : []
  const byKill = brokerKills.map(
    ({ at }) => missing.filter((message) => message.at <= at && message.at > at - BROKER_MEMORY_MS).length,
  )
  byKill.forEach((count, n) => {
    console.log(
      `SIGKILL ${n + 1} of the broker: ${count} messages that it had acknowledged were never handed over`,
    )
  })
  const brokerLost = byKill.reduce((total, count) => total + count, 0)
  const lost = missing.length - brokerLost
  const taken = [...tap.taken.values()].flatMap((marks) => [...marks.values()])
  const repeated = taken.reduce((total, times) => total + times - 1, 0)
  for (const fault of faults.slice(0, 20)) console.log(fault)
  if (faults.length > 0) console.log(`${faults.length} devices ended otherwise than they said`)
  else console.log('Every device ended as it said.')
  const figures = {
    published: sum('published'),
    acknowledged: sum('acknowledged'),
    lost,
    brokerLost,
    repeated,
  }
  console.log(JSON.stringify({ ...figures, kills: kills.length }))
  // What the broker lost its devices cannot have said.
  return lost === 0 && (faults.length === 0 || brokerLost > 0)
}

// With this process its children end too.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
try {
  const isWell = await run(readOptions(process.argv.slice(2)))
  process.exit(isWell ? 0 : 1)
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exit(1)
}
