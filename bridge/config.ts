import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { isLoopbackUrl } from '../src/protocol/loopback.ts'
import { DEVICE_SHARES, type DeviceShares } from './shares.ts'

const count = (fallback: number, least = 1, most = 1_000_000_000) =>
  z.coerce.number().int().min(least).max(most).default(fallback)

/** The kernel's limit for a Unix socket's path is 107; the socket is first made at `{path}.{process id}`. */
const MAX_SOCKET_PATH = 99

const url = (protocol: RegExp) =>
  z.url({ protocol, error: 'must be a URL' }).transform((text) => text.replace(/\/+$/, ''))

/** The path of a file → its content. */
const file = z.string().transform((path, context) => {
  try {
    return readFileSync(path)
  } catch {
    context.addIssue({ code: 'custom', message: 'names a file that cannot be read' })
    return z.NEVER
  }
})

/** A file that `read` must be able to parse; `message` is the fault if it cannot. */
const pem = (read: (bytes: Buffer) => unknown, message: string) =>
  file.refine((bytes) => {
    try {
      read(bytes)
      return true
    } catch {
      return false
    }
  }, message)
const certificate = pem((bytes) => new X509Certificate(bytes), 'holds no certificate in PEM')
const privateKey = pem(createPrivateKey, 'holds no private key in PEM without a passphrase')

const workerUrl = url(/^https?$/).refine(
  (text) => text.startsWith('https:') || isLoopbackUrl(text),
  'must begin with https: unless it leads to this machine, since anybody on the way could read the key and every device token',
)

/** The bridge's environment. `readConfig` drops variables that are set but empty first. */
const fromEnvironment = z.object({
  WORKER_URL: workerUrl,
  BRIDGE_KEY: z.string().min(1),
  BRIDGE_NAME: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')
    .default('default'),
  HOST: z.string().default('127.0.0.1'),
  MQTT_PORT: count(1883, 0, 65_535),
  MQTT_URL: url(/^(mqtt|mqtts|tcp|ssl|ws|wss)$/).optional(),
  MQTT_USERNAME: z.string().optional(),
  MQTT_PASSWORD: z.string().optional(),
  MQTT_PASSWORD_FILE: file.transform((bytes) => bytes.toString().trimEnd()).optional(),
  MQTT_CA_FILE: certificate.optional(),
  MQTT_CERT_FILE: certificate.optional(),
  MQTT_KEY_FILE: privateKey.optional(),
  MQTT_SHARED_GROUP: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -')
    .optional(),
  IDENTITY: z.enum(['topic', 'user-property', 'envelope']).default('topic'),
  PLUGIN_SOCKET: z.string().max(MAX_SOCKET_PATH, `must be at most ${MAX_SOCKET_PATH} characters`).optional(),
  SPOOL_FILE: z.string().default('.bridge/spool.db'),
  CREDENTIALS_FILE: z.string().optional(),
  SPOOL_SYNC: z.enum(['normal', 'full']).default('normal'),
  SPOOL_MAX_MB: count(1024),
  CREDIT: count(200, 1, 1000),
  MAX_CONNECTIONS: count(20_000),
  AUTH_CONCURRENCY: count(50, 1, 1000),
  DEVICE_MESSAGES_PER_MINUTE: count(DEVICE_SHARES.messages.perMinute),
  DEVICE_MESSAGES_AT_ONCE: count(DEVICE_SHARES.messages.atOnce),
  DEVICE_REQUESTS_PER_MINUTE: count(DEVICE_SHARES.requests.perMinute),
  DEVICE_REQUESTS_AT_ONCE: count(DEVICE_SHARES.requests.atOnce),
  DEVICE_CONNECTS_PER_MINUTE: count(DEVICE_SHARES.connects.perMinute),
  DEVICE_CONNECTS_AT_ONCE: count(DEVICE_SHARES.connects.atOnce),
  DEVICE_CONNECTIONS: count(DEVICE_SHARES.connections),
  DEVICE_SPOOL_PERCENT: count(DEVICE_SHARES.spoolPercent, 1, 100),
  HEALTH_HOST: z.string().default('127.0.0.1'),
  HEALTH_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'),
})

const LOGIN = ['MQTT_USERNAME', 'MQTT_PASSWORD', 'MQTT_PASSWORD_FILE']
const TLS = ['MQTT_CA_FILE', 'MQTT_CERT_FILE', 'MQTT_KEY_FILE']
const NEED_A_BROKER = [...LOGIN, ...TLS, 'MQTT_SHARED_GROUP', 'PLUGIN_SOCKET']
const SECURE_URL = /^(mqtts|ssl|wss):/
const URL_WITH_LOGIN = /^[^/]*\/\/[^/]*@/

/** Faults of variables that depend on each other. */
function dependencyFaults(set: Record<string, string | undefined>): string[] {
  const faults: string[] = []
  if (set.MQTT_URL === undefined) {
    const idle = NEED_A_BROKER.filter((name) => set[name] !== undefined)
    if (set.IDENTITY !== undefined && set.IDENTITY !== 'topic') idle.push('IDENTITY')
    faults.push(...idle.map((name) => `${name}: needs MQTT_URL`))
  } else {
    // An operator who names a CA believes that the connection uses TLS.
    const open = SECURE_URL.test(set.MQTT_URL) ? [] : TLS.filter((name) => set[name] !== undefined)
    faults.push(...open.map((name) => `${name}: needs TLS, an MQTT_URL that begins with mqtts: or wss:`))
    if (URL_WITH_LOGIN.test(set.MQTT_URL) && LOGIN.some((name) => set[name] !== undefined)) {
      faults.push('MQTT_URL, MQTT_USERNAME: give the login in one of them')
    }
    if (set.PLUGIN_SOCKET !== undefined && (set.IDENTITY ?? 'topic') !== 'topic') {
      faults.push('PLUGIN_SOCKET: the plugin names the publisher in the topic, so IDENTITY is topic')
    }
  }
  if ((set.MQTT_CERT_FILE === undefined) !== (set.MQTT_KEY_FILE === undefined)) {
    faults.push('MQTT_CERT_FILE, MQTT_KEY_FILE: certificate and key go together')
  }
  if (set.MQTT_PASSWORD !== undefined && set.MQTT_PASSWORD_FILE !== undefined) {
    faults.push('MQTT_PASSWORD, MQTT_PASSWORD_FILE: give one of them')
  }
  return faults
}

/** The settings of one bridge. */
export interface BridgeConfig {
  workerUrl: string
  bridgeKey: string
  bridgeName: string
  host: string
  /** 0: any free port (tests). */
  mqttPort: number
  /** Absent: the bridge runs the embedded broker. */
  mqttUrl?: string | undefined
  /** How the bridge logs in to a joined broker. */
  mqttLogin?: MqttLogin
  /** How a joined broker says who published. */
  identity?: IdentityName
  /** The group of a shared subscription (`$share`); the broker must hash by client id. */
  sharedGroup?: string | undefined
  /** The Unix socket on which a plugin of the broker asks (brokers/plugin-socket.ts). */
  pluginSocket?: string | undefined
  spoolFile: string
  /** The devices' credentials, hashed; by default beside the spool. */
  credentialsFile?: string | undefined
  spoolSync: 'normal' | 'full'
  spoolMaxBytes: number
  /** How many notices this bridge may hold that the broker has not acknowledged. */
  credit: number
  maxConnections: number
  authConcurrency: number
  /** By default DEVICE_SHARES. */
  shares?: Partial<DeviceShares> | undefined
  logLevel: string
  /** Absent: the bridge serves neither /healthz nor /metrics. */
  health?: { host: string; port: number } | undefined
  /** Shorter times, for tests. */
  timing?: Partial<Timing>
}

export interface Timing {
  publishWithinMs: number
  upToIntervalMs: number
  backoffBaseMs: number
  authCacheMs: number
  credentialsPollMs: number
  requestTimeoutMs: number
  leaseWaitMs: number
}

export type IdentityName = 'topic' | 'user-property' | 'envelope'

/** Certificates and key are PEM texts. Over TLS the broker's certificate is always verified. */
export interface MqttLogin {
  username?: string | undefined
  password?: string | undefined
  ca?: Buffer | undefined
  cert?: Buffer | undefined
  key?: Buffer | undefined
}

/** Reads the environment. Throws one Error that names every fault but no value, since values may be secret. */
export function readConfig(environment: Record<string, string | undefined>): BridgeConfig {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = fromEnvironment.safeParse(set)
  const faults = parsed.success
    ? []
    : parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`)
  faults.push(...dependencyFaults(set))
  if (!parsed.success || faults.length > 0) {
    const lines = faults.map((fault) => `  ${fault}`)
    throw new Error(`The bridge's configuration is not valid:\n${lines.join('\n')}`)
  }
  const e = parsed.data
  return {
    workerUrl: e.WORKER_URL,
    bridgeKey: e.BRIDGE_KEY,
    bridgeName: e.BRIDGE_NAME,
    host: e.HOST,
    mqttPort: e.MQTT_PORT,
    mqttUrl: e.MQTT_URL,
    mqttLogin: {
      username: e.MQTT_USERNAME,
      password: e.MQTT_PASSWORD ?? e.MQTT_PASSWORD_FILE,
      ca: e.MQTT_CA_FILE,
      cert: e.MQTT_CERT_FILE,
      key: e.MQTT_KEY_FILE,
    },
    identity: e.IDENTITY,
    sharedGroup: e.MQTT_SHARED_GROUP,
    pluginSocket: e.PLUGIN_SOCKET,
    spoolFile: e.SPOOL_FILE,
    credentialsFile: e.CREDENTIALS_FILE,
    spoolSync: e.SPOOL_SYNC,
    spoolMaxBytes: e.SPOOL_MAX_MB * 1024 * 1024,
    credit: e.CREDIT,
    maxConnections: e.MAX_CONNECTIONS,
    authConcurrency: e.AUTH_CONCURRENCY,
    shares: {
      messages: { perMinute: e.DEVICE_MESSAGES_PER_MINUTE, atOnce: e.DEVICE_MESSAGES_AT_ONCE },
      requests: { perMinute: e.DEVICE_REQUESTS_PER_MINUTE, atOnce: e.DEVICE_REQUESTS_AT_ONCE },
      connects: { perMinute: e.DEVICE_CONNECTS_PER_MINUTE, atOnce: e.DEVICE_CONNECTS_AT_ONCE },
      connections: e.DEVICE_CONNECTIONS,
      spoolPercent: e.DEVICE_SPOOL_PERCENT,
    },
    logLevel: e.LOG_LEVEL,
    health: e.HEALTH_PORT === undefined ? undefined : { host: e.HEALTH_HOST, port: e.HEALTH_PORT },
  }
}
