import { type Bridge, startBridge } from './bridge.ts'
import { readConfig } from './config.ts'
import { createLog, errorFields } from './log.ts'

const STOP_WITHIN_MS = 10_000

// Whatever the bridge writes is for its owner alone.
process.umask(0o077)

function configured() {
  try {
    return readConfig(process.env)
  } catch (error) {
    const fields = { code: 'bridge.config_invalid', error: (error as Error).message } as const
    createLog('error').error(fields, 'the configuration is not valid')
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
  log.error(
    { code: 'bridge.crashed', ...errorFields(error) },
    'the bridge ends because of an unexpected error',
  )
  process.exit(1)
})

bridge = await startBridge(config, log).catch((error: unknown) => {
  log.error({ code: 'bridge.start_failed', ...errorFields(error) }, 'the bridge cannot start')
  process.exit(1)
})
