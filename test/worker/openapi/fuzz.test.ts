import { env } from 'cloudflare:workers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { faultOf } from './answers.ts'
import { type Operation, readOperations } from './document.ts'
import { makeFixture } from './fixture.ts'
import { type HostileSketch, hostileChanges, toText } from './hostile.ts'
import { send, toRequest } from './send.ts'
import { validRequest } from './valid.ts'

const settings = env as unknown as { FUZZ_SEED?: string; FUZZ_RUNS?: string }
/** `FUZZ_SEED=… vitest run test/worker/openapi/fuzz.test.ts` makes the same requests again. */
const seed = Number(settings.FUZZ_SEED ?? Math.trunc(Math.random() * 2 ** 31))
/** Valid requests to each operation; there are twice as many hostile ones. */
const runs = Number(settings.FUZZ_RUNS ?? 15)

const operations = await readOperations()
console.log(`fuzz: FUZZ_SEED=${seed} FUZZ_RUNS=${runs}`)

/** What belongs to another tenant. */
let strange: string[] | undefined

/** What it takes to make the request by hand. */
const shown = ({ method, path }: Operation, sketch: HostileSketch) =>
  `${method} ${path} ${JSON.stringify({ ...sketch, body: toText(sketch) }).slice(0, 1500)}`

it('the OpenAPI document has operations, and each has answers', () => {
  expect(operations.length).toBeGreaterThan(60)
  for (const { answers } of operations) expect(answers.size).toBeGreaterThan(0)
})

const cases = operations.map((operation, index) => ({
  name: `${operation.method} ${operation.path}`,
  operation,
  index,
}))

describe.each(cases)('$name', ({ operation, index }) => {
  it('answers valid and hostile requests as the OpenAPI document says, and never with a 5xx', async () => {
    const fixture = await makeFixture()
    strange ??= Object.values((await makeFixture()).values).flat()
    const answersAsDescribed = async (sketch: HostileSketch) => {
      const request = toRequest(operation, sketch, fixture)
      if (!request) return
      const answer = await send(request)
      const fault = faultOf(operation, answer)
      const message = `${fault}\n${answer.status} ${answer.text.slice(0, 500)}\n${shown(operation, sketch)}`
      expect(fault === null ? '' : `FUZZ_SEED=${seed}: ${message}`).toBe('')
    }
    const valid = validRequest(operation, fixture).map(
      (sketch): HostileSketch => ({ ...sketch, planted: [] }),
    )
    const hostile = fc
      .tuple(valid, hostileChanges(strange))
      .map(([sketch, changes]) => changes.reduce((changed, change) => change(changed), sketch))
    // A request changes what the next one meets, so a shorter example would not be one.
    const play = { seed: seed + index, endOnFailure: true }
    await fc.assert(fc.asyncProperty(valid, answersAsDescribed), { ...play, numRuns: runs })
    await fc.assert(fc.asyncProperty(hostile, answersAsDescribed), { ...play, numRuns: 2 * runs })
  })
})
