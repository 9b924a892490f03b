import { env } from 'cloudflare:workers'
import fc from 'fast-check'

/** Scenarios of one seed. */
const CHUNK = 250

/** Set by `npm run test:model`: how many scenarios, and the number of the first chunk. */
const settings = env as unknown as { MODEL_RUNS?: string; MODEL_SEED?: string }

export const runsOf = (usual: number) => Number(settings.MODEL_RUNS ?? usual)
export const firstChunk = Number(settings.MODEL_SEED ?? 1)

/**
 * Plays scenarios, a chunk at a time, each with a seed of its own: its number, a thousand times, and the part. A long run
 * says after each chunk how far it is, so that `MODEL_SEED` can go on from there. Ends with the first that is not well.
 */
export async function playInChunks<T>(
  name: string,
  scenarios: fc.Arbitrary<T>,
  runs: number,
  part: number,
  isWell: (scenario: T) => Promise<boolean>,
): Promise<void> {
  for (let left = runs, chunk = firstChunk; left > 0; left -= CHUNK, chunk++) {
    const numRuns = Math.min(left, CHUNK)
    const details = await fc.check(fc.asyncProperty(scenarios, isWell), {
      numRuns,
      seed: chunk * 1000 + part,
      endOnFailure: true,
    })
    if (details.failed) return
    if (settings.MODEL_RUNS !== undefined)
      console.log(`${name}: MODEL_SEED=${chunk}, ${numRuns} scenarios are well`)
  }
}
