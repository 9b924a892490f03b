import { createGate } from '../../bridge/brokers/gate.ts'
import { type Behaviour, DEFAULT_BEHAVIOUR, type DevicePlan, planFleet } from './behaviour.ts'
import { type DeviceIdentity, type FleetContext, type SimulatedDevice, startDevice } from './device.ts'
import { createRandom } from './random.ts'
import { createStats, type FleetStats } from './stats.ts'
import type { DeviceTruth } from './truth.ts'

export interface FleetOptions {
  mqttUrl: string
  devices: readonly DeviceIdentity[]
  behaviour?: Partial<Behaviour>
  /** The same seed draws the same devices for each fate. */
  seed?: number
  /** Overrides the drawn plan of a device. */
  plan?: (device: DeviceIdentity, index: number) => Partial<DevicePlan>
  /** How many devices connect, and how many download, at the same time. */
  maxConnects?: number
  maxDownloads?: number
}

export interface Fleet {
  /** Resolves when every device that does not start late has reported its version. */
  started(): Promise<void>
  /** Resolves when every device has ended an upgrade and works on none; rejects if the fleet is stopped before. */
  finished(): Promise<void>
  /** Each device's own view by its number; a live map, not a copy. */
  truth(): Map<string, DeviceTruth>
  /** A copy of the present figures. */
  readonly stats: FleetStats
  /** Ends all connections. */
  stop(): void
}

const MAX_CONNECTS = 200
const MAX_DOWNLOADS = 500

/** Starts the devices in this process, at most `maxConnects` of them connecting at a time. */
export function startFleet(options: FleetOptions): Fleet {
  const behaviour = { ...DEFAULT_BEHAVIOUR, ...options.behaviour }
  const seed = options.seed ?? 1
  const random = createRandom(seed)
  const stats = createStats()
  const truths = new Map<string, DeviceTruth>()
  const waiters = new Set<{ resolve: () => void; reject: (error: Error) => void }>()
  let stopped = false
  let open = options.devices.length

  const context: FleetContext = {
    mqttUrl: options.mqttUrl,
    behaviour,
    stats,
    connectGate: createGate(options.maxConnects ?? MAX_CONNECTS),
    downloadGate: createGate(options.maxDownloads ?? MAX_DOWNLOADS),
    onOpen(change) {
      open += change
      if (open > 0) return
      for (const { resolve } of waiters) resolve()
      waiters.clear()
    },
  }

  const plans = planFleet(options.devices.length, behaviour, seed)
  const prompt: SimulatedDevice[] = []
  const devices = options.devices.map((identity, index) => {
    const plan = { ...plans[index]!, ...options.plan?.(identity, index) }
    const device = startDevice(identity, plan, context, random)
    truths.set(identity.number, device.truth)
    if (plan.lateMs === 0) prompt.push(device)
    return device
  })

  return {
    started: async () => {
      await Promise.all(prompt.map((device) => device.started))
    },
    finished: () =>
      new Promise((resolve, reject) => {
        if (open === 0) resolve()
        else if (stopped) reject(new Error('the fleet is stopped'))
        else waiters.add({ resolve, reject })
      }),
    truth: () => truths,
    get stats() {
      return stats.read()
    },
    stop() {
      stopped = true
      for (const device of devices) device.stop()
      for (const { reject } of waiters) reject(new Error('the fleet was stopped'))
      waiters.clear()
    },
  }
}
