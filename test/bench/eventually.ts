import { setTimeout as sleep } from 'node:timers/promises'

const EVERY_MS = 2

/** Polls until the condition holds. */
export async function eventually(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(EVERY_MS)
}
