import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IClientOptions } from 'mqtt'
import { pino } from 'pino'
import { createGuesses } from '../../bridge/brokers/guesses.ts'
import { listenForPlugin, type PluginSocket } from '../../bridge/brokers/plugin-socket.ts'
import type { Knowledge } from '../../bridge/credentials.ts'
import { until } from './fake-worker.ts'
import { type Mosquitto, startMosquitto } from './mosquitto.ts'
import { connectDevice, type MqttDevice } from './system-device.ts'

/** Mosquitto with the plugin and the bridge's plugin socket; the test plays the bridge's credentials and client. */
export async function mosquittoFixture(more: string[] = []) {
  const directory = mkdtempSync(join(tmpdir(), 'mosquitto-'))
  const path = join(directory, 'plugin.sock')
  /** Passwords of the devices that may connect, by username. */
  const users = new Map<string, string>()
  /** Device numbers by username. */
  const numbers = new Map<string, string>()
  /** The presence events that the bridge gets. */
  const events: string[] = []
  const connections: MqttDevice[] = []
  let socket: PluginSocket | undefined
  /** True: the bridge answers no question of the plugin. */
  let silent = false
  let verified = 0

  function knowledgeOf(username: string, password: string): Knowledge {
    const expected = users.get(username)
    if (expected === undefined) return 'unknown'
    return expected === password ? 'allow' : 'deny'
  }

  async function openSocket(): Promise<void> {
    socket = await listenForPlugin({
      path,
      credentials: {
        check: (username, password) => {
          verified++
          return silent ? new Promise(() => {}) : Promise.resolve(knowledgeOf(username, password))
        },
        recall: (username, password) => (password === '' && users.get(username) === '' ? 'token' : undefined),
        maySubscribe: (username, filter) =>
          filter === `ota/devices/inform/${numbers.get(username)}` ? 'allow' : 'deny',
        isComplete: () => true,
        refresh: async () => {},
      },
      shares: { note: (username, share) => void events.push(`over ${share} ${username}`) },
      guesses: createGuesses(),
      events: {
        connected: (username) => events.push(`connected ${username}`),
        disconnected: (username) => events.push(`disconnected ${username}`),
        subscribed: (username, topic) => events.push(`subscribed ${username} ${topic}`),
      },
      reset: () => events.push('reset'),
      log: pino({ level: 'silent' }),
    })
  }
  await openSocket()
  const mosquitto: Mosquitto = await startMosquitto({
    directory,
    socket: path,
    bridgePassword: 'of the bridge',
    persistence: true,
    more,
  })
  const isAsked = () => until('the plugin', () => socket?.counts.plugins)
  await isAsked()

  async function connect(username: string, options: IClientOptions = {}): Promise<MqttDevice> {
    const connection = await connectDevice(mosquitto.url, username, options)
    connection.client.on('error', () => {})
    connections.push(connection)
    return connection
  }

  return {
    mosquitto,
    users,
    numbers,
    events,
    counts: () => socket!.counts,
    /** How many passwords and tokens were verified. */
    verified: () => verified,
    dropSessions: (username: string) => socket?.dropSessions(username),
    setSilent: (is: boolean) => {
      silent = is
    },
    closeSocket: async () => {
      await socket?.close()
      socket = undefined
    },
    async openSocket() {
      await openSocket()
      await isAsked()
    },
    isAsked,
    connect,
    /** Connects a device that may connect with an empty password. */
    async device(username: string, options?: IClientOptions): Promise<MqttDevice> {
      users.set(username, '')
      return connect(username, options)
    },
    /** Connects with the bridge's own account. */
    bridge: (options: IClientOptions = {}) =>
      connect(mosquitto.login.username, {
        password: mosquitto.login.password,
        clientId: 'edge-ota-bridge-default',
        ...options,
      }),
    async end() {
      for (const { client } of connections) client.end(true)
      await mosquitto.kill()
      await socket?.close()
      rmSync(directory, { recursive: true })
    },
  }
}

export type MosquittoFixture = Awaited<ReturnType<typeof mosquittoFixture>>
