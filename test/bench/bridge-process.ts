import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../e2e/mosquitto.ts'

/** The bridge as a process, as in production, with its metrics. */
export interface BridgeProcess {
  mqttUrl: string
  pid: number
  /** A figure of /metrics by its full name; throws if there is none. */
  figure(name: string): Promise<number>
  kill(): Promise<void>
}

const STARTS_WITHIN_MS = 30_000

/** Starts the bridge; resolves when it is the active one of its name. */
export async function startBridge(
  worker: { url: string; key: string },
  directory: string,
  more: Record<string, string>,
): Promise<BridgeProcess> {
  const [port, healthPort] = [String(await freePort()), String(await freePort())]
  const child = spawn(process.execPath, ['bridge/main.ts'], {
    env: {
      PATH: process.env.PATH,
      WORKER_URL: worker.url,
      BRIDGE_KEY: worker.key,
      SPOOL_FILE: join(directory, 'spool.db'),
      HEALTH_PORT: healthPort,
      SPOOL_MAX_MB: '4096',
      LOG_LEVEL: 'error',
      ...('MQTT_URL' in more ? {} : { MQTT_PORT: port }),
      ...more,
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const end = () => child.kill('SIGKILL')
  process.on('exit', end)
  const ended = new Promise((resolve) => child.once('exit', resolve))

  async function figure(name: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${healthPort}/metrics`)
    const line = (await response.text()).split('\n').find((each) => each.startsWith(`${name} `))
    if (line === undefined) throw new Error(`the bridge has no figure ${name}`)
    return Number(line.split(' ')[1])
  }
  const deadline = performance.now() + STARTS_WITHIN_MS
  while ((await figure('edge_ota_bridge_active').catch(() => 0)) !== 1) {
    if (performance.now() > deadline || child.exitCode !== null) throw new Error('the bridge does not start')
    await sleep(50)
  }
  return {
    mqttUrl: more.MQTT_URL ?? `mqtt://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    figure,
    async kill() {
      end()
      await ended
      process.off('exit', end)
    },
  }
}
