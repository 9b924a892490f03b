import { type Bridge, startBridge } from './bridge.ts'
import { readConfig } from './config.ts'
import { keepKeys, type LocalKeys, migrate, registerKeys } from './local/database.ts'
import { type Front, startFront } from './local/front.ts'
import { checkPort, freePort } from './local/ports.ts'
import { type LocalSettings, readSettings } from './local/settings.ts'
import { type LocalWorker, startWorker } from './local/worker.ts'
import { closeToOthers } from './private-files.ts'

// `npm start`: runs the Worker and the bridge on this machine. Data is kept under .wrangler/, keys in .dev.vars.

const BRIDGE_STOPS_WITHIN_MS = 8_000
const WORKER_STOPS_WITHIN_MS = 1_500
/** One Ctrl-C arrives twice: from the terminal, and again from npm, which passes it on. */
const SAME_SIGNAL_MS = 500

// Whatever this process and wrangler write is for its owner alone.
process.umask(0o077)

let worker: LocalWorker | undefined
let front: Front | undefined
let bridge: Bridge | undefined
let stoppingSince: number | undefined

async function stop(exitCode: number): Promise<void> {
  stoppingSince ??= performance.now()
  // The bridge stops first, so that it can still post its last batch to the Worker.
  const late = new Promise((resolve) => setTimeout(resolve, BRIDGE_STOPS_WITHIN_MS))
  await Promise.race([bridge?.stop(), late])
  front?.close()
  await worker?.stop(WORKER_STOPS_WITHIN_MS)
  process.exit(exitCode)
}

function onSignal(): void {
  if (stoppingSince === undefined) {
    console.log('\nStopping …')
    void stop(0)
  } else if (performance.now() - stoppingSince > SAME_SIGNAL_MS) {
    worker?.kill()
    process.exit(1)
  }
}
process.on('SIGINT', onSignal)
process.on('SIGTERM', onSignal)
// If npm ends before this process, the terminal hangs up. That does not count as a second Ctrl-C.
process.on('SIGHUP', () => void stop(0))

function fail(error: unknown): void {
  if (stoppingSince !== undefined) return
  console.error(`\n${error instanceof Error ? error.message : String(error)}`)
  void stop(1)
}

function report(settings: LocalSettings, keys: LocalKeys): void {
  console.log(`
  edge-ota runs.

    Console    ${settings.publicUrl}   (sign in with the admin key)
    API        ${settings.publicUrl}/api/v1   (reference: ${settings.publicUrl}/docs)
    MQTT       ${settings.mqttUrl}
    Admin key  ${keys.adminKey}   (kept in .dev.vars)

  See an upgrade: npm run demo, in another terminal. Stop with Ctrl-C.
`)
}

async function start(): Promise<void> {
  const settings = readSettings(process.env, process.cwd(), await freePort())
  await checkPort(settings.host, settings.port, 'PORT')
  if (settings.mqttPort !== undefined) await checkPort(settings.host, settings.mqttPort, 'MQTT_PORT')

  console.log('Starting …')
  closeToOthers(settings.dataDirectory)
  const keys = keepKeys(settings.devVarsFile)
  const config = readConfig({
    ...process.env,
    WORKER_URL: settings.workerUrl,
    BRIDGE_KEY: keys.bridgeKey,
    BRIDGE_NAME: 'default',
    SPOOL_FILE: settings.spoolFile,
    LOG_LEVEL: settings.logLevel,
  })
  await migrate(settings)
  await registerKeys(settings, keys, Date.now())
  worker = await startWorker(settings)
  void worker.ended.then(() => fail(new Error('The Worker ended by itself.')))
  const { host, port, workerPort } = settings
  if (settings.isOpen) front = await startFront({ host, port, workerPort })
  bridge = await startBridge(config)
  if (stoppingSince === undefined) report(settings, keys)
}

start().catch(fail)
