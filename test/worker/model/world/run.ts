import { it } from 'vitest'
import { firstChunk, playInChunks, runsOf } from '../chunks.ts'
import { lookUpModulesInPlace } from '../in-place.ts'
import { play } from './play.ts'
import { type Scenario, scenario } from './steps.ts'
import { makeStage, type Stage } from './world.ts'

const STEPS = 30
const RUNS = 150
const TRIES = 3
/** For how long a failing scenario is shortened. */
const SHORTEN_MS = 60_000

export function testInvariants(): void {
  const runs = runsOf(RUNS)
  const name = `no invariant is broken in ${runs} scenarios of ${STEPS} steps with several tasks (from seed ${firstChunk})`
  it(name, { timeout: 10 * 3_600_000 }, async () => {
    const stage = await makeStage()
    lookUpModulesInPlace()
    let failed: { scenario: Scenario; fault: Error } | undefined
    const isWell = async (scenario: Scenario) => {
      const fault = await faultOf(stage, scenario)
      if (fault !== null) failed ??= { scenario, fault }
      return fault === null
    }
    await playInChunks('world', scenario(STEPS), runs, 0, isWell)
    if (failed) throw await explain(stage, failed.scenario, failed.fault)
  })
}

async function faultOf(stage: Stage, each: Scenario): Promise<Error | null> {
  try {
    await play(stage, structuredClone(each))
    return null
  } catch (error) {
    return error as Error
  }
}

/** Leaves out the steps that the fault does not need, and describes the rest. */
async function explain(stage: Stage, failing: Scenario, first: Error): Promise<Error> {
  const kindOf = ({ message }: Error) => message.split('\n')[0]!.replace(/\S*\d\S*/g, '')
  const until = performance.now() + SHORTEN_MS
  /** The ids of tasks and devices are random, and with them who is in which wave: it may take a few tries. */
  const sameFaultOf = async (scenario: Scenario) => {
    for (let tries = 0; tries < TRIES; tries++) {
      const next = await faultOf(stage, scenario)
      if (next !== null && kindOf(next) === kindOf(first)) return next
    }
    return null
  }
  let shortest = failing
  let fault = first
  for (let span = STEPS / 2; span >= 1; span = Math.floor(span / 2)) {
    for (let at = 0; at < shortest.steps.length && performance.now() < until; ) {
      const steps = shortest.steps.toSpliced(at, span)
      const next = await sameFaultOf({ ...shortest, steps })
      if (next === null) at += span
      else {
        shortest = { ...shortest, steps }
        fault = next
      }
    }
  }
  const { steps, ...setting } = shortest
  const lines = steps.map((step) => `  ${JSON.stringify(step)}`)
  return new Error(`${JSON.stringify(setting)}\n${lines.join('\n')}\n${fault.message}`, { cause: fault })
}
