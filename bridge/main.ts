import { startBridge } from './bridge.ts'
import { readConfig } from './config.ts'
import { createLog } from './log.ts'

const STOP_WITHIN_MS = 10_000

function configured() {
  try {
    return readConfig(process.env)
  } catch (error) {
    console.error((error as Error).message)
    process.exit(1)
  }
}

const config = configured()
const log = createLog(config.logLevel)
const bridge = await startBridge(config, log).catch((error: unknown) => {
  log.fatal({ err: error }, 'the bridge cannot start')
  process.exit(1)
})

async function stop(): Promise<void> {
  // A second signal ends it at once; the spool is safe at any moment.
  setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref()
  await bridge.stop()
  process.exit(0)
}
process.once('SIGTERM', () => void stop())
process.once('SIGINT', () => void stop())
