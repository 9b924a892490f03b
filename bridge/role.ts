import type { Log } from './log.ts'

/** Whether this bridge is the active one of its name, or stands by (the hub's lease decides). */
export interface Role {
  isActive(): boolean
  /** The hub says who holds the lease. */
  told(active: boolean): void
  /** The broker has handed this bridge's session to another one. */
  fenced(): void
  /** Settles with the first part that it plays; rejects where that part cannot be begun. */
  first: Promise<void>
  stop(): void
}

const TRY_AGAIN_MS = 5_000

/**
 * Active from the moment at which the hub says so. Where no hub can be asked at the start, nobody else can have been
 * made active meanwhile either: then after `waitMs` it begins by itself, so that devices are served while the Worker
 * is away. Two that do so fence each other at the broker, and the one that lost waits for the hub.
 */
export function createRole(options: {
  waitMs: number
  activate(): Promise<void>
  deactivate(): Promise<void>
  /** Asks the hub once more. */
  ask(): void
  log: Log
}): Role {
  const { log } = options
  const first = Promise.withResolvers<void>()
  let wanted: boolean | undefined
  let isFirst = true
  const begun = () => {
    isFirst = false
  }
  first.promise.then(begun, begun)
  let retry: NodeJS.Timeout | undefined
  const alone = setTimeout(() => {
    log.warn('no hub says which bridge is active: this one begins by itself')
    become(true)
  }, options.waitMs)

  function become(active: boolean): void {
    clearTimeout(alone)
    clearTimeout(retry)
    if (wanted !== active) log.info(active ? 'this bridge is the active one' : 'this bridge stands by')
    wanted = active
    const done = active ? options.activate() : options.deactivate()
    done.then(first.resolve, (error: Error) => {
      if (isFirst) return first.reject(error)
      log.error({ err: error }, 'the broker cannot be opened')
      retry = setTimeout(() => wanted === active && become(active), TRY_AGAIN_MS)
    })
  }

  return {
    isActive: () => wanted === true,
    first: first.promise,
    told: become,
    fenced() {
      log.warn('the broker handed the session of this bridge to another one')
      become(false)
      retry = setTimeout(options.ask, TRY_AGAIN_MS)
    },
    stop() {
      clearTimeout(alone)
      clearTimeout(retry)
    },
  }
}
