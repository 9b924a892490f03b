import { setTimeout as sleep } from 'node:timers/promises'
import { backoffMs } from './backoff.ts'

/** Runs `pull` at intervals, and at once if a caller needs it; never two at a time, and never too often. */
export interface Pulls {
  /** Waits for a pull that begins after this call; calls share it. Resolves to false if it failed. Never rejects. */
  soon(): Promise<boolean>
  /** How many pulls have begun. */
  begun(): number
  /** Aborts the running pull and resolves when it has ended. */
  close(): Promise<void>
}

export function createPulls(options: {
  /** Resolves to false if it failed: then it is tried again with backoff. Must not reject. */
  pull: (signal: AbortSignal) => Promise<boolean>
  /** From the end of a pull to the start of the next, if no caller needs one sooner. */
  intervalMs: number
  /** The shortest time from the start of a pull to the start of the next, however many callers there are. */
  minGapMs: number
  backoffBaseMs: number
}): Pulls {
  const ending = new AbortController()
  const { signal } = ending
  let begun = 0
  let failures = 0
  let lastBegan = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let running: Promise<boolean> = Promise.resolve(true)
  let next: Promise<boolean> | undefined

  async function pullNext(): Promise<boolean> {
    await running
    const wait = lastBegan + options.minGapMs - performance.now()
    if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => {})
    clearTimeout(timer)
    next = undefined
    if (signal.aborted) return false
    begun++
    lastBegan = performance.now()
    running = options.pull(signal)
    const isGood = await running
    failures = isGood ? 0 : failures + 1
    const delay = isGood ? 0 : backoffMs(failures, options.backoffBaseMs)
    clearTimeout(timer)
    if (!signal.aborted)
      timer = setTimeout(soon, isGood ? options.intervalMs : Math.min(delay, options.intervalMs))
    return isGood
  }

  function soon(): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false)
    next ??= pullNext()
    return next
  }

  return {
    soon,
    begun: () => begun,
    async close() {
      ending.abort()
      clearTimeout(timer)
      await running
    },
  }
}
