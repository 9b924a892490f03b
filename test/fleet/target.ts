import { join } from 'node:path'
import { readDevVars } from '../../bridge/local/dev-vars.ts'
import { type Api, createApi } from './api-client.ts'

/** The installation that a command works against. */
export interface Target {
  url: string
  mqttUrl: string
  key: string
}

const REACHABLE_WITHIN_MS = 5_000

/**
 * Takes the command line, else the defaults of `npm start` in this environment: PORT, MQTT_PORT, and the key of
 * ADMIN_KEY or `.dev.vars`. Throws if there is no key.
 */
export function findTarget(
  given: { url?: string | undefined; mqtt?: string | undefined; key?: string | undefined },
  environment: Record<string, string | undefined> = process.env,
): Target {
  const key =
    given.key || environment.ADMIN_KEY || readDevVars(join(process.cwd(), '.dev.vars')).ADMIN_KEY || ''
  if (key === '') throw new Error('There is no key: run `npm start` first, or give --key or ADMIN_KEY.')
  const url = given.url ?? `http://127.0.0.1:${environment.PORT || 8787}`
  return {
    url: url.replace(/\/+$/, ''),
    mqttUrl: given.mqtt ?? `mqtt://127.0.0.1:${environment.MQTT_PORT || 1883}`,
    key,
  }
}

/** Returns a client for the target; if nothing answers there, throws an error that says what to do. */
export async function connectApi(
  { url, key }: Target,
  onCall?: Parameters<typeof createApi>[0]['onCall'],
): Promise<Api> {
  try {
    const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(REACHABLE_WITHIN_MS) })
    await response.body?.cancel()
    if (!response.ok) throw new Error(`status ${response.status}`)
  } catch {
    throw new Error(`Nothing answers at ${url}. Run \`npm start\` in another terminal first, or give --url.`)
  }
  return createApi({ url, key, ...(onCall && { onCall }) })
}
