import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { hasMosquitto } from './mosquitto.ts'

// The soak in short: `npm run soak` is the whole.

const run = promisify(execFile)
const WITHIN_MS = 110_000

async function soak(args: string[]) {
  const short = ['--devices', '100', '--messages', '3000', '--kills', '4', '--quiet']
  // It ends what it has started when it is told to end; a test that is over tells nobody.
  const { stdout } = await run(process.execPath, ['test/soak/soak.ts', ...short, ...args], {
    timeout: WITHIN_MS,
  })
  return JSON.parse(stdout.trim().split('\n').at(-1)!)
}

const nothingLost = { published: 3000, acknowledged: 3000, lost: 0, brokerLost: 0, kills: 4 }

it('loses nothing that the embedded broker acknowledged, whatever is killed', async () => {
  expect(await soak(['--broker', 'embedded'])).toMatchObject(nothingLost)
})

it.skipIf(!hasMosquitto())('loses nothing behind a Mosquitto that is ended as it should be', async () => {
  expect(await soak(['--broker', 'mosquitto'])).toMatchObject(nothingLost)
})
