import type { BenchFleet } from './fleet.ts'
import { rate } from './fleet.ts'
import type { Player, Said } from './player.ts'

/** What is measured for each batch size: messages in all, and batches in flight at a time. */
const LOADS = [
  { batchSize: 1, messages: 1_000, inFlight: 8 },
  { batchSize: 10, messages: 5_000, inFlight: 8 },
  { batchSize: 100, messages: 20_000, inFlight: 4 },
  { batchSize: 1000, messages: 40_000, inFlight: 2 },
]

/** Progress of the devices in turn; the step grows with each round. */
export function* progressOf({ devices }: BenchFleet, messages: number, firstStep = 1): Generator<Said> {
  for (let n = 0; n < messages; n++) {
    const step = firstStep + (Math.floor(n / devices.length) % 90)
    const { accessToken: username } = devices[n % devices.length]!
    yield {
      username,
      topic: 'progress',
      body: { id: '1', params: { step: String(step), desc: `Upgrade Progress ${step}%`, module: 'default' } },
    }
  }
}

/** Progress messages a second by HTTP batches; a batch is answered when it is durable in the task's object. */
export async function uplinkHttp(
  player: Player,
  fleet: BenchFleet,
  runs: number,
): Promise<Record<string, number[]>> {
  const rates: Record<string, number[]> = {}
  // Warm-up: V8 compiles the code during the first messages.
  await player.say(progressOf(fleet, 20_000), 1000, 2)
  for (let run = 0; run < runs; run++) {
    for (const { batchSize, messages, inFlight } of LOADS) {
      const since = performance.now()
      await player.say(progressOf(fleet, messages, run * 7 + 2), batchSize, inFlight)
      rates[batchSize] ??= []
      rates[batchSize].push(rate(messages, since))
    }
  }
  return rates
}
