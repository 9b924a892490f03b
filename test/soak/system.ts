import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { keepKeys, migrate, registerKeys } from '../../bridge/local/database.ts'
import { type LocalSettings, readSettings } from '../../bridge/local/settings.ts'
import { type LocalWorker, startWorker } from '../../bridge/local/worker.ts'
import { freePort, type Mosquitto, startMosquitto } from '../e2e/mosquitto.ts'
import { type Api, createApi } from '../fleet/api-client.ts'
import type { SoakOptions } from './options.ts'
import { startTap, type Tap } from './tap.ts'

/** Worker, bridge and broker as processes that can be killed and restarted with what they stored. */
export interface SoakSystem {
  api: Api
  mqttUrl: string
  tap: Tap
  /** Kills and restarts a process, by its name; resolves when it runs again. */
  kill: Record<string, () => Promise<void>>
  close(): Promise<void>
}

const BRIDGE_STARTS_WITHIN_MS = 30_000
const BRIDGE_STOPS_WITHIN_MS = 12_000
const ANSWERS_WITHIN_MS = 10_000
const WORKER_TRIES = 3

/** Tries again: on a busy machine the local platform's proxy was seen to hang for good right after its first answer. */
async function startAnswering(settings: LocalSettings): Promise<LocalWorker> {
  for (let tries = 1; ; tries++) {
    const worker = await startWorker(settings)
    const { ok } = await fetch(`${settings.workerUrl}/healthz`, {
      signal: AbortSignal.timeout(ANSWERS_WITHIN_MS),
    }).catch(() => ({ ok: false }))
    if (ok) return worker
    worker.kill()
    await worker.ended
    if (tries === WORKER_TRIES) throw new Error('the local platform does not answer')
  }
}

export async function startSystem({ broker, brokerKill }: SoakOptions): Promise<SoakSystem> {
  const directory = mkdtempSync(join(tmpdir(), 'soak-'))
  const settings = readSettings({ PORT: String(await freePort()), LOG_LEVEL: 'error' }, directory)
  const keys = keepKeys(settings.devVarsFile)
  await migrate(settings)
  await registerKeys(settings, keys, Date.now())
  let worker: LocalWorker = await startAnswering(settings)
  const tap = await startTap(new URL(settings.workerUrl))
  const socket = join(directory, 'plugin.sock')
  const mqttPort = await freePort()
  const mosquitto: Mosquitto | undefined =
    broker === 'mosquitto'
      ? await startMosquitto({
          port: mqttPort,
          directory: join(directory, 'mosquitto'),
          socket,
          bridgePassword: 'of the bridge',
          persistence: true,
        })
      : undefined
  let bridge: ChildProcess = await startBridge()
  // No child process or file stays behind, however this process ends.
  let isClosed = false
  process.on('exit', () => {
    if (isClosed) return
    worker.kill()
    bridge.kill('SIGKILL')
    if (mosquitto && mosquitto.pid() > 0) process.kill(mosquitto.pid(), 'SIGKILL')
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  })

  async function startBridge(): Promise<ChildProcess> {
    const child = spawn(process.execPath, ['bridge/main.ts'], {
      env: {
        PATH: process.env.PATH,
        WORKER_URL: tap.url,
        BRIDGE_KEY: keys.bridgeKey,
        SPOOL_FILE: settings.spoolFile,
        LOG_LEVEL: 'info',
        ...(mosquitto
          ? {
              MQTT_URL: mosquitto.url,
              MQTT_USERNAME: mosquitto.login.username,
              MQTT_PASSWORD: mosquitto.login.password,
              PLUGIN_SOCKET: socket,
            }
          : { MQTT_PORT: String(mqttPort) }),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('the bridge did not start')), BRIDGE_STARTS_WITHIN_MS)
      child.once('exit', () => reject(new Error('the bridge ended while it was starting')))
      child.stdout.on('data', (chunk) => {
        if (!String(chunk).includes('the bridge runs')) return
        clearTimeout(late)
        resolve()
      })
    })
    return child
  }

  async function endBridge(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const ended = new Promise((resolve) => bridge.once('exit', resolve))
    if (bridge.exitCode !== null || bridge.signalCode !== null) return
    bridge.kill(signal)
    const force = setTimeout(() => bridge.kill('SIGKILL'), BRIDGE_STOPS_WITHIN_MS)
    await ended
    clearTimeout(force)
  }

  return {
    api: createApi({ url: settings.workerUrl, key: keys.adminKey }),
    mqttUrl: `mqtt://127.0.0.1:${mqttPort}`,
    tap,
    kill: {
      async bridge() {
        await endBridge('SIGKILL')
        bridge = await startBridge()
      },
      async worker() {
        worker.kill()
        await worker.ended
        worker = await startAnswering(settings)
      },
      ...(mosquitto && {
        async broker() {
          if (brokerKill === 'sigkill') await mosquitto.kill()
          await mosquitto.restart()
        },
      }),
    },
    async close() {
      await endBridge('SIGTERM')
      await mosquitto?.kill()
      await tap.close()
      worker.kill()
      await worker.ended
      rmSync(directory, { recursive: true, force: true })
      isClosed = true
    },
  }
}
