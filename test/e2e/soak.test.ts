import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { hasMosquitto } from './mosquitto.ts'

// A short soak; `npm run soak` plays the full one.

const run = promisify(execFile)
const WITHIN_MS = 280_000

async function soak(args: string[]) {
  const short = ['--devices', '100', '--messages', '3000', '--kills', '4', '--quiet']
  // The timeout ends the soak, which then ends its children; the end of a test alone would not.
  const { stdout } = await run(process.execPath, ['test/soak/soak.ts', ...short, ...args], {
    timeout: WITHIN_MS,
  })
  return JSON.parse(stdout.trim().split('\n').at(-1)!)
}

const nothingLost = { published: 3000, acknowledged: 3000, lost: 0, brokerLost: 0, kills: 4 }

it('a soak with the embedded broker loses no acknowledged message, whatever is killed', async () => {
  expect(await soak(['--broker', 'embedded'])).toMatchObject(nothingLost)
})

it.skipIf(!hasMosquitto())(
  'a soak with a Mosquitto that is stopped properly loses no acknowledged message',
  async () => {
    expect(await soak(['--broker', 'mosquitto'])).toMatchObject(nothingLost)
  },
)
