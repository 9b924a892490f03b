import type { Progress } from './kills.ts'

/** Keeps devices from getting far ahead of the Worker, so that messages are in flight at every kill. */
export interface Pace {
  /** Resolves when a device may say its next message. */
  turn(): Promise<void>
  end(): void
}

const LOOK_EVERY_MS = 20
/** Longer than a restart of the Worker. After it devices go on: messages that a killed broker lost are never taken. */
const WAIT_MS = 10_000

/** `window`: how many messages may be acknowledged but not yet taken by the Worker. */
export function startPace({ said, taken }: Progress, window: number): Pace {
  let waiting: (() => void)[] = []
  let last = 0
  let lastAt = 0
  const isAhead = () => said() - taken() >= window
  const looking = setInterval(() => {
    if (taken() !== last) {
      last = taken()
      lastAt = Date.now()
    }
    if (isAhead() && Date.now() - lastAt < WAIT_MS) return
    const released = waiting
    waiting = []
    for (const go of released) go()
  }, LOOK_EVERY_MS)
  return {
    turn: () => (isAhead() ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve()),
    end: () => clearInterval(looking),
  }
}
