import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createApi } from '../fleet/api-client.ts'
import { DEFAULT_BEHAVIOUR } from '../fleet/behaviour.ts'
import { type Fleet, startFleet } from '../fleet/fleet.ts'
import { identitiesOf } from '../fleet/identities.ts'
import { ensurePackage, importFleet } from '../fleet/setup.ts'
import { agrees, tally } from '../fleet/truth.ts'
import { eventually, type System, startSystem } from './system.ts'

/** 10,000 in `npm run test:fleet`. */
const DEVICES = Number(process.env.FLEET_DEVICES || 300)
/** A generous limit, only for a fleet that would never end. */
const WITHIN_MS = 60_000 + DEVICES * 100

let system: System
let bridge: ChildProcess | undefined
let fleet: Fleet | undefined
beforeAll(async () => {
  system = await startSystem({ withBridge: false })
})
afterAll(async () => {
  fleet?.stop()
  if (bridge?.exitCode === null) {
    bridge.kill('SIGTERM')
    await once(bridge, 'exit')
  }
  await system.close()
})

/** Starts the bridge as a process: one process cannot hold both ends of 10,000 sockets. */
async function runBridge(): Promise<string> {
  bridge = spawn(process.execPath, ['bridge/main.ts'], {
    env: {
      PATH: process.env.PATH,
      WORKER_URL: system.url.origin,
      BRIDGE_KEY: system.bridgeKey,
      MQTT_PORT: '0',
      SPOOL_FILE: join(system.directory, 'fleet.db'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let log = ''
  bridge.stdout!.on('data', (chunk) => {
    log += chunk
  })
  return eventually(() => {
    const port = /"mqttPort":(\d+)/.exec(log)?.[1]
    expect(port).toBeDefined()
    return `mqtt://127.0.0.1:${port}`
  })
}

const seconds = (since: number) => ((performance.now() - since) / 1000).toFixed(1)

it(
  `${DEVICES} devices of a CSV file are upgraded, and the server's report agrees with each device's own view`,
  async () => {
    const mqttUrl = await runBridge()
    const { key } = await system.newTenant()
    const api = createApi({ url: system.url.origin, key })
    const product = await api.createProduct({ name: 'a fleet' })
    const devices = identitiesOf(DEVICES, product.id, key)
    const importing = performance.now()
    expect(await importFleet(api, product.id, devices)).toEqual({ created: DEVICES, updated: 0 })
    console.log(`${DEVICES} devices imported in ${seconds(importing)} s`)
    const pkg = await ensurePackage(api, {
      productId: product.id,
      version: 'v1.1.0',
      module: 'default',
      size: 20_000,
    })

    const connecting = performance.now()
    fleet = startFleet({
      mqttUrl,
      devices,
      behaviour: {
        ...DEFAULT_BEHAVIOUR,
        failUpgrade: 0.03,
        failDownload: 0.03,
        failVerify: 0.03,
        failWrite: 0.03,
        rollBack: 0.03,
        cutDownload: 0.1,
        goOffline: 0.1,
        offlineMs: 2_000,
        startLate: 0.1,
        // Late enough that the others have connected and the task exists.
        lateMs: 3_000 + DEVICES * 6,
      },
    })
    await fleet.started()
    console.log(`all connected and reported their first version in ${seconds(connecting)} s`)

    const upgrading = performance.now()
    const task = await api.createTask({ packageId: pkg.id, name: 'the fleet', devices: 'all' })
    await fleet.finished()
    const { messagesPerSecond, ...stats } = fleet.stats
    console.log(
      `upgraded in ${seconds(upgrading)} s, ${Math.round(messagesPerSecond)} messages/s: ${JSON.stringify(stats)}`,
    )
    await eventually(async () => expect((await api.task(task.id)).status).toBe('finished'), WITHIN_MS)
    console.log(`the task is finished after ${seconds(upgrading)} s`)

    const truth = fleet.truth()
    await eventually(async () => {
      const different: object[] = []
      let reported = 0
      for await (const device of api.taskDevices(task.id)) {
        reported++
        const itself = truth.get(device.number)!
        if (!agrees(itself, device)) different.push({ ...device, itself })
      }
      expect(reported).toBe(DEVICES)
      expect(different).toEqual([])
    }, WITHIN_MS)
    const { success, failure, rolledBack, ...others } = tally(truth.values())
    expect(others).toEqual({ waiting: 0, working: 0, silent: 0 })
    expect(failure).toBe(4 * Math.round(0.03 * DEVICES))
    expect(rolledBack).toBe(Math.round(0.03 * DEVICES))
    expect((await api.task(task.id)).counts).toEqual({
      total: DEVICES,
      pending: 0,
      pushed: 0,
      upgrading: 0,
      cancelled: 0,
      success: success + rolledBack,
      failure,
    })
    expect(stats.unreadable).toBe(0)
    expect(system.errors()).toEqual([])
  },
  WITHIN_MS * 3,
)
