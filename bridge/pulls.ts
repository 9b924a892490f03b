import { setTimeout as sleep } from 'node:timers/promises'
import { backoffMs } from './backoff.ts'

/** Work that is done now and then, and whenever somebody needs it now: never twice at once, nor all the time. */
export interface Pulls {
  /** One that has not begun yet; calls at the same time share it. False where it failed. Never rejects. */
  soon(): Promise<boolean>
  /** How many have begun. */
  begun(): number
  /** Resolves when the last one has ended. */
  close(): Promise<void>
}

export function createPulls(options: {
  /** False where it failed: then it comes again sooner, with backoff. Never rejects. */
  pull: (signal: AbortSignal) => Promise<boolean>
  /** From the end of one to the beginning of the next, where nobody needs it sooner. */
  everyMs: number
  /** From beginning to beginning, however many need it. */
  apartMs: number
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
    const wait = lastBegan + options.apartMs - performance.now()
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
    if (!signal.aborted) timer = setTimeout(soon, isGood ? options.everyMs : Math.min(delay, options.everyMs))
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
