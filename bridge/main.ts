import { type Bridge, startBridge } from './bridge.ts'
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
let bridge: Bridge | undefined

async function stop(): Promise<void> {
  // The handlers run once, so a second signal ends the process at once. The spool is safe at any moment.
  setTimeout(() => process.exit(1), STOP_WITHIN_MS).unref()
  await bridge?.stop()
  process.exit(0)
}
// Set before the bridge starts: the start may wait long for the disk, and the first process of a container has no
// default handler that would end it.
process.once('SIGTERM', () => void stop())
process.once('SIGINT', () => void stop())
process.on('uncaughtException', (error) => {
  log.fatal({ err: error }, 'the bridge ends by a fault of its own')
  process.exit(1)
})

bridge = await startBridge(config, log).catch((error: unknown) => {
  log.fatal({ err: error }, 'the bridge cannot start')
  process.exit(1)
})
