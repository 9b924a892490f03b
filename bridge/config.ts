import { z } from 'zod'

const count = (fallback: number, least = 1, most = 1_000_000_000) =>
  z.coerce.number().int().min(least).max(most).default(fallback)

const url = (protocol: RegExp) =>
  z.url({ protocol, error: 'must be a URL' }).transform((text) => text.replace(/\/+$/, ''))

/** A variable that is set but empty counts as absent. */
const fromEnvironment = z.object({
  WORKER_URL: url(/^https?$/),
  BRIDGE_KEY: z.string().min(1),
  BRIDGE_NAME: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')
    .default('default'),
  HOST: z.string().default('127.0.0.1'),
  MQTT_PORT: count(1883, 0, 65_535),
  MQTT_URL: url(/^(mqtt|mqtts|tcp|ssl|ws|wss)$/).optional(),
  SPOOL_FILE: z.string().default('.bridge/spool.db'),
  SPOOL_SYNC: z.enum(['normal', 'full']).default('normal'),
  SPOOL_MAX_MB: count(1024),
  CREDIT: count(200, 1, 1000),
  MAX_CONNECTIONS: count(20_000),
  AUTH_CONCURRENCY: count(50, 1, 1000),
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
})

/** What a bridge runs with. Times are in ms, sizes in bytes, where the name does not say otherwise. */
export interface BridgeConfig {
  workerUrl: string
  bridgeKey: string
  bridgeName: string
  host: string
  /** 0: any free port (tests). */
  mqttPort: number
  /** Absent: the embedded broker. */
  mqttUrl?: string | undefined
  spoolFile: string
  spoolSync: 'normal' | 'full'
  spoolMaxBytes: number
  /** How many notices may be on their way through this bridge. */
  credit: number
  maxConnections: number
  authConcurrency: number
  logLevel: string
  /** For tests, where the protocol's own times are too long. */
  timing?: Partial<Timing>
}

export interface Timing {
  publishWithinMs: number
  upToIntervalMs: number
  backoffBaseMs: number
  authCacheMs: number
  requestTimeoutMs: number
  leaseWaitMs: number
}

/** Reads the environment; throws one Error that names every fault, never a value. */
export function readConfig(environment: Record<string, string | undefined>): BridgeConfig {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = fromEnvironment.safeParse(set)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`)
    throw new Error(`The bridge's configuration is not valid:\n${faults.join('\n')}`)
  }
  const e = parsed.data
  return {
    workerUrl: e.WORKER_URL,
    bridgeKey: e.BRIDGE_KEY,
    bridgeName: e.BRIDGE_NAME,
    host: e.HOST,
    mqttPort: e.MQTT_PORT,
    mqttUrl: e.MQTT_URL,
    spoolFile: e.SPOOL_FILE,
    spoolSync: e.SPOOL_SYNC,
    spoolMaxBytes: e.SPOOL_MAX_MB * 1024 * 1024,
    credit: e.CREDIT,
    maxConnections: e.MAX_CONNECTIONS,
    authConcurrency: e.AUTH_CONCURRENCY,
    logLevel: e.LOG_LEVEL,
  }
}
