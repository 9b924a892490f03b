import { errorFields, type Log } from './log.ts'

/** Whether this bridge is the active one of its name or stands by. The hub's lease decides. */
export interface Role {
  isActive(): boolean
  /** The hub says whether this bridge holds the lease. */
  setActive(active: boolean): void
  /** The broker has handed this bridge's session over to another bridge. */
  sessionTakenOver(): void
  /** Resolves when the bridge first is active or stands by; rejects if its broker cannot be opened then. */
  started: Promise<void>
  stop(): void
}

const TRY_AGAIN_MS = 5_000

/**
 * The bridge is active as soon as the hub says so. If the hub cannot be reached for `waitMs` at the start, the bridge
 * becomes active by itself, so that devices are served while the Worker is away. If two bridges of a name do so, the
 * broker ends the session of one of them, and that one waits for the hub.
 */
export function createRole(options: {
  waitMs: number
  activate(): Promise<void>
  deactivate(): Promise<void>
  /** Asks the hub again whether this bridge is the active one. */
  askForLease(): void
  log: Log
}): Role {
  const { log } = options
  const started = Promise.withResolvers<void>()
  let wanted: boolean | undefined
  let isFirst = true
  const begun = () => {
    isFirst = false
  }
  started.promise.then(begun, begun)
  let retry: NodeJS.Timeout | undefined
  const alone = setTimeout(() => {
    log.warn(
      { code: 'bridge.lease_unknown' },
      'the hub cannot be reached: this bridge becomes active by itself',
    )
    become(true)
  }, options.waitMs)

  function become(active: boolean): void {
    clearTimeout(alone)
    clearTimeout(retry)
    if (wanted !== active) {
      if (active) log.info({ code: 'bridge.active' }, 'this bridge is the active one')
      else log.info({ code: 'bridge.standby' }, 'this bridge stands by')
    }
    wanted = active
    const done = active ? options.activate() : options.deactivate()
    done.then(started.resolve, (error: Error) => {
      if (isFirst) return started.reject(error)
      log.error({ code: 'bridge.broker_not_opened', ...errorFields(error) }, 'the broker cannot be opened')
      retry = setTimeout(() => wanted === active && become(active), TRY_AGAIN_MS)
    })
  }

  return {
    isActive: () => wanted === true,
    started: started.promise,
    setActive: become,
    sessionTakenOver() {
      log.warn({ code: 'bridge.session_taken_over' }, 'another bridge took over the session at the broker')
      become(false)
      retry = setTimeout(options.askForLease, TRY_AGAIN_MS)
    },
    stop() {
      clearTimeout(alone)
      clearTimeout(retry)
    },
  }
}
