import { join } from 'node:path'
import { z } from 'zod'

const port = (fallback: number) => z.coerce.number().int().min(1).max(65_535).default(fallback)

/** A variable that is set but empty counts as absent. */
const fromEnvironment = z.object({
  HOST: z.string().default('127.0.0.1'),
  PORT: port(8787),
  MQTT_PORT: port(1883),
  MQTT_URL: z.string().optional(),
  PUBLIC_URL: z.url({ protocol: /^https?$/, error: 'must be an http URL' }).optional(),
  LOG_LEVEL: z.string().default('warn'),
})

/** What `npm start` runs with. */
export interface LocalSettings {
  host: string
  port: number
  /** Undefined where MQTT_URL names another broker. */
  mqttPort: number | undefined
  /** Where devices and browsers reach the Worker; download links begin with it. */
  publicUrl: string
  /** Where this machine reaches it. */
  workerUrl: string
  mqttUrl: string
  logLevel: string
  /** The wrangler state: D1, R2 and objects. */
  stateDirectory: string
  spoolFile: string
  devVarsFile: string
}

/** Addresses that mean "all of this machine's": nobody can connect to them. */
const EVERY_ADDRESS = ['0.0.0.0', '::']

/** Reads the environment; everything on disk is under `directory`. Throws one Error that names every fault. */
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
