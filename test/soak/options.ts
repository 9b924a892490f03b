import { parseArgs } from 'node:util'

export interface SoakOptions {
  broker: 'embedded' | 'mosquitto'
  /** How Mosquitto is ended: after `graceful` no message may be lost. */
  brokerKill: 'graceful' | 'sigkill'
  kills: number
  devices: number
  messages: number
  seed: number
  /** Prints only faults and the last line. */
  quiet: boolean
}

const HELP = `npm run soak -- [options]
  --broker embedded|mosquitto     (embedded)
  --broker-kill graceful|sigkill  how Mosquitto is ended (graceful)
  --kills N                       (20)
  --devices N                     (2000)
  --messages N                    in all (200000)
  --seed N                        the same seed draws the same kills (1)
  --quiet                         print only faults and the last line`

/** Throws an Error that names the wrong option, or has the help as its text. */
export function readOptions(args: string[]): SoakOptions {
  const { values } = parseArgs({
    args,
    options: {
      broker: { type: 'string', default: 'embedded' },
      'broker-kill': { type: 'string', default: 'graceful' },
      kills: { type: 'string', default: '20' },
      devices: { type: 'string', default: '2000' },
      messages: { type: 'string', default: '200000' },
      seed: { type: 'string', default: '1' },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) throw new Error(HELP)
  const number = (name: 'kills' | 'devices' | 'messages' | 'seed', least: number) => {
    const value = Number(values[name])
    if (!Number.isInteger(value) || value < least)
      throw new Error(`--${name} must be a number from ${least} on`)
    return value
  }
  const one = <T extends string>(name: 'broker' | 'broker-kill', choices: readonly T[]): T => {
    const choice = choices.find((each) => each === values[name])
    if (!choice) throw new Error(`--${name} must be ${choices.join(' or ')}`)
    return choice
  }
  const devices = number('devices', 1)
  const messages = number('messages', devices * MIN_MESSAGES)
  return {
    broker: one('broker', ['embedded', 'mosquitto']),
    brokerKill: one('broker-kill', ['graceful', 'sigkill']),
    kills: number('kills', 0),
    devices,
    messages,
    seed: number('seed', 0),
    quiet: values.quiet,
  }
}

/** The fewest messages of a device: a version, some progress, and an end. */
export const MIN_MESSAGES = 6
