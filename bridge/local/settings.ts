import { join } from 'node:path'
import { z } from 'zod'

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
  /** Undefined if MQTT_URL names another broker. */
  mqttPort: number | undefined
  /** The address at which devices and browsers reach the Worker; download links begin with it. */
  publicUrl: string
  /** The Worker's address on this machine. */
  workerUrl: string
  mqttUrl: string
  logLevel: string
  /** The directory of wrangler's state: D1, R2 and objects. */
  stateDirectory: string
  spoolFile: string
  devVarsFile: string
}

/** Addresses that mean "all addresses of this machine": one can listen on them, but not connect to them. */
const EVERY_ADDRESS = ['0.0.0.0', '::']

/** Reads the environment; all files are kept under `directory`. Throws one Error that names every fault. */
export function readSettings(
  environment: Record<string, string | undefined>,
  directory: string,
): LocalSettings {
  const set = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = fromEnvironment.safeParse(set)
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `  ${issue.path.join('.')}: ${issue.message}`)
    throw new Error(`These settings are not valid:\n${faults.join('\n')}`)
  }
  const e = parsed.data
  const reachable = EVERY_ADDRESS.includes(e.HOST) ? '127.0.0.1' : e.HOST
  const authority = reachable.includes(':') ? `[${reachable}]` : reachable
  const workerUrl = `http://${authority}:${e.PORT}`
  return {
    host: e.HOST,
    port: e.PORT,
    mqttPort: e.MQTT_URL === undefined ? e.MQTT_PORT : undefined,
    publicUrl: e.PUBLIC_URL?.replace(/\/+$/, '') ?? workerUrl,
    workerUrl,
    mqttUrl: e.MQTT_URL ?? `mqtt://${authority}:${e.MQTT_PORT}`,
    logLevel: e.LOG_LEVEL,
    stateDirectory: join(directory, '.wrangler', 'state'),
    spoolFile: join(directory, '.wrangler', 'bridge', 'spool.db'),
    devVarsFile: join(directory, '.dev.vars'),
  }
}
