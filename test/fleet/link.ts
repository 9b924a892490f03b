import { type Connection, openConnection } from './connection.ts'
import type { StatsKeeper } from './stats.ts'

/** A device's line to the broker, which is reopened after each loss. */
export interface Link {
  /** Publishes, again if the connection is lost before the PUBACK; rejects when the device is stopped. */
  say(topic: string, message: object): Promise<void>
  /** Ends the connection and opens a new one; resolves once that is subscribed. */
  reboot(): Promise<void>
  /** Cuts the connection and keeps it closed until `online`. */
  offline(): void
  online(): void
  untilOnline(): Promise<void>
}

const RETRY_MS = 500
const MAX_RETRY_MS = 15_000

/** Limits how much work runs at the same time; see `createGate`. */
export type Gate = <T>(work: () => Promise<T>) => Promise<T>

/** Opens the line at once, and again after each loss, after a growing random delay. */
export function openLink(options: {
  connection: Parameters<typeof openConnection>[0]
  gate: Gate
  random: () => number
  stats: StatsKeeper
  signal: AbortSignal
  sleep: (ms: number) => Promise<void>
}): Link {
  const { stats, signal, sleep } = options
  let wanted = true
  let current: Connection | undefined
  let opening: Promise<Connection> | undefined
  let goOnline: (() => void) | undefined
  let allowed: Promise<void> = Promise.resolve()

  async function open(): Promise<Connection> {
    for (let failures = 0; ; failures++) {
      await allowed
      signal.throwIfAborted()
      try {
        const connection = await options.gate(() => {
          signal.throwIfAborted()
          return openConnection(options.connection)
        })
        if (signal.aborted || !wanted) connection.cut()
        else return adopt(connection)
      } catch (error) {
        signal.throwIfAborted()
        stats.counts.lostConnections++
        stats.counts.lastRefusal = (error as Error).message
        const delay = Math.min(RETRY_MS * 2 ** failures, MAX_RETRY_MS)
        await sleep(delay * (0.5 + options.random()))
      }
    }
  }

  function adopt(connection: Connection): Connection {
    stats.counts.connects++
    current = connection
    void connection.ended.then(() => {
      if (current !== connection) return // `drop` ended it
      current = undefined
      stats.counts.lostConnections++
      keepOpen()
    })
    return connection
  }

  function connected(): Promise<Connection> {
    if (current) return Promise.resolve(current)
    opening ??= open().finally(() => {
      opening = undefined
    })
    return opening
  }
  const keepOpen = () => void connected().catch(() => {}) // rejects when the device is stopped

  function drop(end: 'close' | 'cut'): void {
    const connection = current
    current = undefined
    connection?.[end]()
  }

  signal.addEventListener('abort', () => {
    goOnline?.()
    drop('cut')
  })
  keepOpen()

  return {
    async say(topic, message) {
      const payload = JSON.stringify(message)
      for (;;) {
        const connection = await connected()
        stats.counts.published++
        stats.tick()
        try {
          await connection.publish(topic, payload)
          stats.counts.acknowledged++
          stats.tick()
          return
        } catch {
          signal.throwIfAborted()
          await connection.ended
        }
      }
    },
    async reboot() {
      const before = current
      drop('close')
      await before?.ended
      await connected()
    },
    offline() {
      wanted = false
      allowed = new Promise((resolve) => {
        goOnline = resolve
      })
      drop('cut')
    },
    online() {
      wanted = true
      goOnline?.()
      keepOpen()
    },
    untilOnline: () => allowed,
  }
}
