import { it } from 'vitest'
import { firstChunk, playInChunks, runsOf } from './chunks.ts'
import { lookUpModulesInPlace } from './in-place.ts'
import { play } from './play.ts'
import { type Scenario, scenario } from './steps.ts'
import { type Fleet, makeFleet } from './system.ts'

const STEPS = 60
const RUNS = 1850
/** For how long a failing scenario is shortened. */
const SHORTEN_MS = 60_000

/** The test of one of the files that share the scenarios and so run side by side. */
export function testAgainstReference(part: number, parts: number): void {
  const runs = Math.ceil(runsOf(RUNS) / parts)
  const name = `a task does what its reference does in ${runs} scenarios of ${STEPS} steps (part ${part} of ${parts}, from seed ${firstChunk})`
  it(name, { timeout: 10 * 3_600_000 }, async () => {
    const fleet = await makeFleet()
    lookUpModulesInPlace()
    const failed: { scenario: Scenario; error: unknown }[] = []
    const isWell = async (each: Scenario) => {
      const error = await faultOf(fleet, each)
      if (error !== null) failed.push({ scenario: each, error })
      return error === null
    }
    await playInChunks(`part ${part}`, scenario(STEPS), runs, part, isWell)
    if (failed[0]) throw await explain(fleet, failed[0].scenario)
  })
}

async function faultOf(fleet: Fleet, each: Scenario): Promise<Error | null> {
  try {
    await play(fleet, structuredClone(each))
    return null
  } catch (error) {
    return error as Error
  }
}

/** Leaves out the steps that the fault does not need, and describes the rest. */
async function explain(fleet: Fleet, failing: Scenario): Promise<Error> {
  const until = performance.now() + SHORTEN_MS
  let shortest = failing
  let fault = (await faultOf(fleet, failing)) ?? new Error('it fails only after the scenarios before it')
  for (let span = STEPS / 2; span >= 1; span = Math.floor(span / 2)) {
    for (let at = 0; at < shortest.steps.length && performance.now() < until; ) {
      const steps = shortest.steps.toSpliced(at, span)
      const next = await faultOf(fleet, { ...shortest, steps })
      if (next === null) at += span
      else {
        shortest = { ...shortest, steps }
        fault = next
      }
    }
  }
  const { steps, ...setting } = shortest
  const lines = steps.map(({ step, ring }) => `  ${JSON.stringify(step)}${ring ? '' : ' (no ring)'}`)
  return new Error(`${JSON.stringify(setting)}\n${lines.join('\n')}\n${fault.message}`, { cause: fault })
}
