import { setTimeout as sleep } from 'node:timers/promises'
import { createRandom } from '../fleet/random.ts'
import type { SoakOptions } from './options.ts'
import type { SoakSystem } from './system.ts'

export interface Kill {
  what: string
  at: number
}

/** How many messages were acknowledged to devices, and how many of them the Worker has taken. */
export interface Progress {
  said(): number
  taken(): number
}

const POLL_MS = 10
const STUCK_MS = 15_000

/**
 * Kills each kind of process about equally often, spread evenly over the progress of the messages: each kill comes at a
 * random moment of its share, and never without messages since the one before. `done` gets each kill as it happens.
 */
export async function killAtRandom(
  kill: SoakSystem['kill'],
  { kills, messages, seed }: SoakOptions,
  { said, taken }: Progress,
  done: Kill[],
  print: (line: string) => void,
): Promise<void> {
  const random = createRandom(seed)
  const progress = () => (said() + taken()) / 2
  const share = messages / Math.max(1, kills)
  /** The progress that must be reached before the next kill. */
  let after = { progress: 0, said: 0 }
  let left: string[] = []
  for (let n = 0; n < kills; n++) {
    const moment = Math.min(messages, Math.max(after.progress, share * (n + random())))
    await until(() => progress() >= moment && said() >= Math.min(messages, after.said), progress)
    if (left.length === 0) left = Object.keys(kill)
    const [what] = left.splice(Math.floor(random() * left.length), 1)
    const at = Date.now()
    done.push({ what: what!, at })
    const waiting = said() - taken()
    await kill[what!]!()
    after = { progress: progress() + share / 4, said: said() + share / 4 }
    print(
      `kill ${n + 1}: ${what} at ${said()} messages (${waiting} acknowledged, not yet handed over), back after ${Date.now() - at} ms`,
    )
  }
}

/** Waits until `isDue`, or until progress stands still: messages that the broker lost never arrive. */
async function until(isDue: () => boolean, progress: () => number): Promise<void> {
  let last = progress()
  let lastAt = Date.now()
  while (!isDue() && Date.now() - lastAt < STUCK_MS) {
    await sleep(POLL_MS)
    if (progress() === last) continue
    last = progress()
    lastAt = Date.now()
  }
}
