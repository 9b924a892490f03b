import { once } from 'node:events'
import type { LocalSettings } from './settings.ts'
import { spawnWrangler } from './wrangler.ts'
import { writeWranglerConfig } from './wrangler-config.ts'

export interface LocalWorker {
  /** Resolves when the Worker's process ends, for whatever reason. */
  ended: Promise<void>
  /** Ends it, by force after `withinMs`. */
  stop(withinMs: number): Promise<void>
  /** Ends it at once, by force. */
  kill(): void
}

const READY_WITHIN_MS = 60_000
const POLL_INTERVAL_MS = 100
const POLL_TIMEOUT_MS = 2_000

/**
 * Starts `wrangler dev`, with D1, R2 and objects kept on disk, and waits until it responds. Rejects if it does not.
 * `more.entry` is an entry file in place of the configured one.
 */
export async function startWorker(
  settings: LocalSettings,
  more: { entry?: string; inspectorPort?: number } = {},
): Promise<LocalWorker> {
  writeWranglerConfig(settings)
  const args = [
    'dev',
    '--config',
    settings.wranglerConfigFile,
    '--env-file',
    settings.devVarsFile,
    '--ip',
    settings.workerHost,
    '--port',
    String(settings.workerPort),
    '--persist-to',
    settings.stateDirectory,
    '--var',
    `PUBLIC_URL:${settings.publicUrl}`,
    '--var',
    // Without an endpoint, downloads go through the Worker.
    `R2_S3_ENDPOINT:${settings.isOpen ? '' : `${settings.publicUrl}/cdn-cgi/local/r2/s3`}`,
    '--log-level',
    'error',
    '--show-interactive-dev-session=false',
    '--inspector-port',
    String(more.inspectorPort ?? 0),
    ...(more.entry === undefined ? [] : [more.entry]),
  ]
  // wrangler's explorer reads and writes D1 and the bucket, for anybody who reaches it.
  const child = spawnWrangler(args, settings.isOpen ? { X_LOCAL_EXPLORER: 'false' } : {})
  const running = () => child.exitCode === null && child.signalCode === null
  const ended = once(child, 'exit').then(
    () => {},
    () => {}, // the process could not be started
  )
  const signal = (name: NodeJS.Signals) => {
    try {
      // The whole group, since wrangler has child processes.
      if (child.pid !== undefined) process.kill(-child.pid, name)
    } catch {
      // No process of the group is left.
    }
  }
  const kill = () => signal('SIGKILL')
  // The group does not end with this process, so it is ended here.
  process.on('exit', kill)
  void ended.then(() => {
    kill()
    // The operating system may soon give its process id to another process.
    process.off('exit', kill)
  })

  const worker: LocalWorker = {
    ended,
    kill,
    async stop(withinMs) {
      const force = setTimeout(kill, withinMs)
      if (running()) child.kill('SIGTERM')
      await ended
      clearTimeout(force)
    },
  }
  try {
    await untilReady(`${settings.workerUrl}/healthz`, running)
  } catch (error) {
    kill()
    throw error
  }
  return worker
}

async function untilReady(url: string, running: () => boolean): Promise<void> {
  const deadline = performance.now() + READY_WITHIN_MS
  while (performance.now() < deadline) {
    if (!running()) throw new Error('The Worker ended while it was starting.')
    if (await isReady(url)) return
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS))
  }
  throw new Error(`The Worker did not answer at ${url} within ${READY_WITHIN_MS / 1000} s.`)
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(POLL_TIMEOUT_MS) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}
