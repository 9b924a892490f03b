import { parseArgs } from 'node:util'
import type { Behaviour } from './behaviour.ts'
import { readBytes, readCount, readDuration, readShare } from './quantities.ts'

interface Option {
  /** Name of the value in the help; absent for a switch. */
  value?: string
  default?: string
  help: string
}

/** Every option of `npm run simulate`, in the order of its help. */
const OPTIONS = {
  devices: { value: 'N', default: '100', help: 'how many devices' },
  url: { value: 'URL', help: 'the API (default: http://127.0.0.1:$PORT or :8787)' },
  mqtt: { value: 'URL', help: 'the broker (default: mqtt://127.0.0.1:$MQTT_PORT or :1883)' },
  key: { value: 'KEY', help: 'an operator’s key (default: $ADMIN_KEY, or that of .dev.vars)' },
  product: { value: 'NAME', help: 'the product to use or make (default: a new one)' },
  version: { value: 'V', default: 'v1.0.0', help: 'the version before the upgrade' },
  to: { value: 'V', default: 'v1.1.0', help: 'the version to upgrade to' },
  size: { value: 'BYTES', default: '256KB', help: 'size of the generated package' },
  sign: { help: 'sign the package, and have devices install nothing else (takes an admin’s key)' },
  'no-task': { help: 'only play the devices, until Ctrl-C; create tasks yourself' },
  topics: {
    value: 'FAMILY',
    default: 'device',
    help: 'topics that the devices use: device, devices or infrom',
  },
  module: { value: 'NAME', default: 'default', help: 'the module that is upgraded' },
  'fail-upgrade': { value: 'SHARE', default: '0', help: 'end with −1' },
  'fail-download': { value: 'SHARE', default: '0', help: 'end with −2' },
  'fail-verify': { value: 'SHARE', default: '0', help: 'end with −3' },
  'fail-write': { value: 'SHARE', default: '0', help: 'end with −4' },
  'roll-back': { value: 'SHARE', default: '0', help: 'report 100 %, then the old version' },
  silent: { value: 'SHARE', default: '0', help: 'say nothing more from half of the upgrade on' },
  'fail-times': { value: 'N', help: 'how many upgrades fail before one succeeds (default: all)' },
  'cut-download': { value: 'SHARE', default: '0', help: 'have the download cut half-way, once' },
  offline: { value: 'SHARE', default: '0', help: 'go offline in the middle, once' },
  'offline-for': { value: 'TIME', default: '5s', help: 'how long' },
  late: { value: 'SHARE', default: '0', help: 'turn up late' },
  'late-by': { value: 'TIME', default: '5s', help: 'how late' },
  'step-time': { value: 'TIME', default: '200ms', help: 'before each progress message' },
  steps: { value: 'N', default: '10', help: 'progress messages of an upgrade' },
  speed: { value: 'BYTES', help: 'download at most so many bytes a second' },
  chunk: { value: 'BYTES', help: 'download in requests of so many bytes' },
  'no-download': { help: 'only check the link with one byte (for very large fleets)' },
  'keep-session': { help: 'connect with a session that outlives the connection' },
  leave: { help: 'disconnect devices that have succeeded (for very large fleets)' },
  connects: { value: 'N', default: '200', help: 'connect so many at a time' },
  downloads: { value: 'N', default: '500', help: 'download so many at a time' },
  seed: { value: 'N', default: '1', help: 'the same seed chooses the same devices' },
  help: { help: 'print this' },
} satisfies Record<string, Option>

type Name = keyof typeof OPTIONS

export interface SimulateOptions {
  devices: number
  url: string | undefined
  mqtt: string | undefined
  key: string | undefined
  product: string | undefined
  to: string
  size: number
  withTask: boolean
  sign: boolean
  seed: number
  maxConnects: number
  maxDownloads: number
  behaviour: Partial<Behaviour>
}

/** The text of `npm run simulate -- --help`. */
export function helpText(): string {
  const lines = Object.entries<Option>(OPTIONS).map(([name, option]) => {
    const usage = `--${name}${option.value ? ` ${option.value}` : ''}`
    const fallback = option.default === undefined ? '' : ` (default: ${option.default})`
    return `  ${usage.padEnd(24)} ${option.help}${fallback}`
  })
  return [
    'Plays a fleet of MQTT devices against a running `npm start`, and an upgrade of it.',
    '',
    '  npm run simulate -- --devices 1000 --fail-download 5% --offline 10%',
    '',
    'A SHARE is a part of the fleet: 5% or 0.05. A TIME is 500ms, 2s or 1m. BYTES are 512, 100KB or 2MB.',
    '',
    ...lines,
  ].join('\n')
}

/** Reads the command line; undefined if it asks for the help. Throws an Error that names the option at fault. */
export function readOptions(args: string[]): SimulateOptions | undefined {
  const { values } = parseArgs({
    args,
    options: Object.fromEntries(
      Object.entries<Option>(OPTIONS).map(([name, option]) => [
        name,
        option.value === undefined
          ? { type: 'boolean' as const }
          : { type: 'string' as const, ...(option.default !== undefined && { default: option.default }) },
      ]),
    ),
  })
  if (values.help) return undefined
  const text = (name: Name) => values[name] as string | undefined
  const isSet = (name: Name) => values[name] === true

  /** Returns undefined only for an option without a default. */
  function read<T>(name: Name, reader: (text: string) => T): T | undefined {
    const given = text(name)
    if (given === undefined) return undefined
    try {
      return reader(given)
    } catch (error) {
      throw new Error(`--${name}: ${(error as Error).message}`)
    }
  }
  const share = (name: Name) => read(name, readShare)!
  const count = (name: Name) => read(name, readCount)!

  return {
    devices: count('devices'),
    url: text('url'),
    mqtt: text('mqtt'),
    key: text('key'),
    product: text('product'),
    to: text('to')!,
    size: read('size', readBytes)!,
    withTask: !isSet('no-task'),
    sign: isSet('sign'),
    seed: count('seed'),
    maxConnects: count('connects'),
    maxDownloads: count('downloads'),
    behaviour: {
      version: text('version')!,
      module: text('module')!,
      topics: read('topics', readTopics)!,
      cleanSession: !isSet('keep-session'),
      failUpgrade: share('fail-upgrade'),
      failDownload: share('fail-download'),
      failVerify: share('fail-verify'),
      failWrite: share('fail-write'),
      rollBack: share('roll-back'),
      silent: share('silent'),
      fateTimes: read('fail-times', readCount) ?? Number.POSITIVE_INFINITY,
      cutDownload: share('cut-download'),
      goOffline: share('offline'),
      offlineMs: read('offline-for', readDuration)!,
      startLate: share('late'),
      lateMs: read('late-by', readDuration)!,
      stepMs: read('step-time', readDuration)!,
      steps: count('steps'),
      leaveWhenDone: isSet('leave'),
      download: !isSet('no-download'),
      bytesPerSecond: read('speed', readBytes) ?? 0,
      chunkBytes: read('chunk', readBytes) ?? 0,
    },
  }
}

function readTopics(text: string): Behaviour['topics'] {
  if (text === 'device' || text === 'devices' || text === 'infrom') return text
  throw new Error(`"${text}" is none of device, devices and infrom`)
}
