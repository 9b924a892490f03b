import { env } from 'cloudflare:workers'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { play } from './play.ts'
import { scenario } from './steps.ts'
import { makeFleet } from './system.ts'

const STEPS = 60

/** Set by `npm run test:model`; the ordinary test run plays 2,000 scenarios in all. */
const settings = env as unknown as { MODEL_RUNS?: string; MODEL_SEED?: string; MODEL_PATH?: string }

/** One of the files that share the scenarios, so that they run side by side. */
export function testAgainstReference(part: number, parts: number): void {
  const runs = Math.ceil(Number(settings.MODEL_RUNS ?? 2000) / parts)
  const seed = Number(settings.MODEL_SEED ?? 20_261) + part
  it(
    `does what its reference does, whatever happens: part ${part} of ${parts}, ${runs} scenarios of ${STEPS} steps`,
    async () => {
      const fleet = await makeFleet()
      let played = 0
      const property = fc.asyncProperty(scenario(STEPS), async (each) => {
        played++
        await play(fleet, structuredClone(each))
      })
      await fc.assert(property, {
        numRuns: runs,
        seed,
        ...(settings.MODEL_PATH && { path: settings.MODEL_PATH }),
      })
      expect(played).toBeGreaterThanOrEqual(settings.MODEL_PATH ? 1 : runs)
    },
    4 * 3_600_000,
  )
}
