import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { isLoopback, isLoopbackUrl } from '../../src/protocol/loopback.ts'

const port = (fallback: number) => z.coerce.number().int().min(1).max(65_535).default(fallback)

/** The environment of `npm start`. `readSettings` drops variables that are set but empty first. */
const fromEnvironment = z.object({
  HOST: z.string().default('127.0.0.1'),
  PORT: port(8787),
  MQTT_PORT: port(1883),
  MQTT_URL: z.string().optional(),
  PUBLIC_URL: z.url({ protocol: /^https?$/, error: 'must be an http URL' }).optional(),
  LOG_LEVEL: z.string().default('warn'),
})

/** The settings of `npm start`. */
export interface LocalSettings {
  host: string
  port: number
  /** Others reach it, at `host` or through a proxy: then the Worker listens on loopback, behind a front (front.ts). */
  isOpen: boolean
  /** Where the Worker itself listens. */
  workerHost: string
  workerPort: number
  /** Undefined if MQTT_URL names another broker. */
  mqttPort: number | undefined
  /** The address at which devices and browsers reach the Worker; download links begin with it. */
  publicUrl: string
  /** The Worker's address on this machine. */
  workerUrl: string
  mqttUrl: string
  logLevel: string
  /** Everything but `.dev.vars` is kept in here. */
  dataDirectory: string
  /** The directory of wrangler's state: D1, R2 and objects. */
  stateDirectory: string
  spoolFile: string
  devVarsFile: string
  /** The random secrets of this installation. */
  secretsFile: string
  /** What wrangler is told, made anew at each start. */
  wranglerConfigFile: string
}

/** Addresses that mean "all addresses of this machine": one can listen on them, but not connect to them. */
const EVERY_ADDRESS = ['0.0.0.0', '::']
const LOOPBACK = '127.0.0.1'

/**
 * Reads the environment; all files are kept under `directory`. `hiddenPort` is a free port of this machine, for a Worker
 * behind a front. Throws one Error that names every fault.
 */
export function readSettings(
  environment: Record<string, string | undefined>,
  directory: string,
  hiddenPort = 0,
): LocalSettings {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = fromEnvironment.safeParse(set)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`)
    throw new Error(`These settings are not valid:\n${faults.join('\n')}`)
  }
  const e = parsed.data
  const isOpen = !isLoopback(e.HOST) || (e.PUBLIC_URL !== undefined && !isLoopbackUrl(e.PUBLIC_URL))
  const reachable = authority(EVERY_ADDRESS.includes(e.HOST) ? addressInNetwork() : e.HOST)
  const [workerHost, workerPort] = isOpen ? [LOOPBACK, hiddenPort] : [e.HOST, e.PORT]
  const dataDirectory = join(directory, '.wrangler')
  return {
    host: e.HOST,
    port: e.PORT,
    isOpen,
    workerHost,
    workerPort,
    mqttPort: e.MQTT_URL === undefined ? e.MQTT_PORT : undefined,
    publicUrl: e.PUBLIC_URL?.replace(/\/+$/, '') ?? `http://${reachable}:${e.PORT}`,
    workerUrl: `http://${authority(workerHost)}:${workerPort}`,
    mqttUrl: e.MQTT_URL ?? `mqtt://${reachable}:${e.MQTT_PORT}`,
    logLevel: e.LOG_LEVEL,
    dataDirectory,
    stateDirectory: join(dataDirectory, 'state'),
    spoolFile: join(dataDirectory, 'bridge', 'spool.db'),
    devVarsFile: join(directory, '.dev.vars'),
    secretsFile: join(dataDirectory, 'local', 'secrets.env'),
    wranglerConfigFile: join(dataDirectory, 'local', 'wrangler.json'),
  }
}

const authority = (host: string) => (host.includes(':') ? `[${host}]` : host)

/** The first address at which others reach this machine; loopback if it is in no network. */
function addressInNetwork(): string {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return all.find(({ internal, family }) => !internal && family === 'IPv4')?.address ?? LOOPBACK
}
