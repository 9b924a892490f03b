import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, connect as tcpConnect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

/** A real Mosquitto with the plugin, for tests, soak and bench; it runs with the operators' own mosquitto.conf. */
export interface Mosquitto {
  port: number
  url: string
  /** The bridge's own account. */
  login: { username: string; password: string }
  /** Its output on stderr, over all its runs. */
  log(): string
  pid(): number
  /** Sends SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
  /** Sends SIGTERM; resolves when it has saved its state and ended. */
  stop(): Promise<void>
  /** Starts it again with the same port and files; stops it gracefully first if it runs. */
  restart(): Promise<void>
  /** Makes it reread its configuration (SIGHUP), with another password for the bridge. */
  reload(bridgePassword: string): void
}

export interface MosquittoOptions {
  /** By default a free port. */
  port?: number
  /** The directory of its files. */
  directory: string
  /** Path of the bridge's PLUGIN_SOCKET. */
  socket: string
  bridgePassword: string
  /** True: it saves its state as mosquitto.conf says; false: nothing survives a restart. */
  persistence: boolean
  /** More lines for its configuration. */
  more?: string[]
}

const START_WITHIN_MS = 60_000
const SOURCES = 'bridge/brokers/mosquitto'
const BRIDGE_USERNAME = 'edge-ota-bridge'
const PATH = `${process.env.PATH}:/usr/sbin`
const environment = { ...process.env, PATH }
const has = (tool: string) => spawnSync('which', [tool], { env: environment }).status === 0

const missing = [
  ...['mosquitto', 'mosquitto_pub', 'mosquitto_sub', 'gcc', 'make'].filter((tool) => !has(tool)),
  ...(existsSync('/usr/include/mosquitto_plugin.h') ? [] : ['mosquitto-dev']),
]

/** True if the tools are installed. Without them it warns and tests are skipped; under CI it throws. */
export function hasMosquitto(): boolean {
  if (missing.length === 0) return true
  const text = `No Mosquitto with its plugin can be run here; missing: ${missing.join(', ')}`
  if (process.env.CI) throw new Error(text)
  console.warn(`${text}. SKIPPED.`)
  return false
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The operators' mosquitto.conf with this test's ports and paths, so that tests run what operators run. */
function configuration(
  port: number,
  plugin: string,
  passwordFile: string,
  options: MosquittoOptions,
): string {
  const places: Record<string, string> = {
    listener: `${port} 127.0.0.1`,
    plugin,
    plugin_opt_socket: options.socket,
    plugin_opt_bridge_password_file: passwordFile,
    persistence: String(options.persistence),
    persistence_location: `${options.directory}/`,
  }
  const lines = readFileSync(join(SOURCES, 'mosquitto.conf'), 'utf8').split('\n')
  const set = lines.map((line) => {
    const [key = ''] = line.split(' ')
    return key in places ? `${key} ${places[key]}` : line
  })
  // Started as root, Mosquitto would change to a user without access to the test's directory.
  const user = process.getuid?.() === 0 ? ['user root'] : []
  return [...set, ...user, ...(options.more ?? [])].join('\n')
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = tcpConnect(port, '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

/** Builds the plugin and starts the broker; resolves when it takes connections. */
export async function startMosquitto(options: MosquittoOptions): Promise<Mosquitto> {
  const { directory } = options
  const port = options.port ?? (await freePort())
  mkdirSync(directory, { recursive: true })
  execFileSync('make', ['-s', '-C', SOURCES, `OUT=${directory}`], { stdio: ['ignore', 'pipe', 'inherit'] })
  const passwordFile = join(directory, 'bridge-password')
  const setPassword = (text: string) => writeFileSync(passwordFile, `${text}\n`, { mode: 0o600 })
  setPassword(options.bridgePassword)
  const file = join(directory, 'mosquitto.conf')
  writeFileSync(file, configuration(port, join(directory, 'edge_ota.so'), passwordFile, options))

  let child: ChildProcess | undefined
  let log = ''

  async function start(): Promise<void> {
    const started = spawn('mosquitto', ['-c', file], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: environment,
    })
    child = started
    started.stderr.on('data', (chunk) => {
      log += chunk
    })
    const deadline = performance.now() + START_WITHIN_MS
    while (!(await isOpen(port))) {
      if (performance.now() > deadline || started.exitCode !== null) {
        started.kill('SIGKILL')
        throw new Error(`mosquitto does not start: ${log}`)
      }
      await pause(20)
    }
  }

  async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const ending = child
    child = undefined
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return
    const ended = new Promise((resolve) => ending.once('exit', resolve))
    ending.kill(signal)
    await ended
  }

  await start()
  return {
    port,
    url: `mqtt://127.0.0.1:${port}`,
    login: { username: BRIDGE_USERNAME, password: options.bridgePassword },
    log: () => log,
    pid: () => child?.pid ?? 0,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    async restart() {
      await end('SIGTERM')
      await start()
    },
    reload(bridgePassword) {
      setPassword(bridgePassword)
      child?.kill('SIGHUP')
    },
  }
}
