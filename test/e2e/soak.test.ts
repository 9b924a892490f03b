import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { hasMosquitto } from './mosquitto.ts'

// The soak in short: `npm run soak` is the whole.

const run = promisify(execFile)

async function soak(args: string[]) {
  const short = ['--devices', '60', '--messages', '1800', '--kills', '4']
  const { stdout } = await run(process.execPath, ['test/soak/soak.ts', ...short, ...args])
  return JSON.parse(stdout.trim().split('\n').at(-1)!)
}

const nothingLost = { published: 1800, acknowledged: 1800, lost: 0, brokerLost: 0, kills: 4 }

it('loses nothing that the embedded broker acknowledged, whatever is killed', async () => {
  expect(await soak(['--broker', 'embedded'])).toMatchObject(nothingLost)
})

it.skipIf(!hasMosquitto())('loses nothing behind a Mosquitto that is ended as it should be', async () => {
  expect(await soak(['--broker', 'mosquitto'])).toMatchObject(nothingLost)
})
