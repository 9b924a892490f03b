import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { createGuesses } from '../../bridge/brokers/guesses.ts'
import { listenForPlugin, type PluginSocket } from '../../bridge/brokers/plugin-socket.ts'
import { until } from './fake-worker.ts'

let directory: string
let path: string
let heard: string[]
let refreshes: number
let listening: PluginSocket[]
let sockets: Socket[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'plugin-'))
  path = join(directory, 'plugin.sock')
  heard = []
  refreshes = 0
  listening = []
  sockets = []
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  for (const server of listening) await server.close()
  rmSync(directory, { recursive: true })
})

async function listen(): Promise<PluginSocket> {
  const say = (what: string) => (username: string, topic?: string) => {
    heard.push([what, username, ...(topic === undefined ? [] : [topic])].join(' '))
  }
  const server = await listenForPlugin({
    path,
    credentials: {
      check: async (username, password) =>
        username === 'new' ? 'unknown' : password === 'right' ? 'allow' : 'deny',
      recall: () => undefined,
      maySubscribe: (username, filter) =>
        filter === `ota/devices/inform/number-of-${username}` ? 'allow' : 'deny',
      isComplete: () => true,
      refresh: async () => {
        refreshes++
      },
    },
    shares: { note: (username, share) => void heard.push(`over ${share} ${username}`) },
    guesses: createGuesses(),
    events: { connected: say('connected'), disconnected: say('disconnected'), subscribed: say('subscribed') },
    reset: () => heard.push('reset'),
    log: pino({ level: 'silent' }),
  })
  listening.push(server)
  heard = []
  return server
}

async function plugin() {
  const socket = connect(path)
  sockets.push(socket)
  let text = ''
  let closed = false
  socket.on('data', (chunk) => {
    text += chunk
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    closed = true
  })
  await until('the connection', () => !socket.connecting)
  return {
    say: (...lines: string[]) => socket.write(lines.map((line) => `${line}\n`).join('')),
    write: (part: string) => socket.write(part),
    lines: () => text.split('\n').slice(0, -1),
    isClosed: () => closed,
    end: () => socket.destroy(),
  }
}
const hex = (text: string) => Buffer.from(text).toString('hex')

it('each question is answered under its number, and an unknown device makes the bridge read the feed', async () => {
  await listen()
  const { say, lines } = await plugin()
  say(`A 1 dev ${hex('right')}`, `A 2 dev ${hex('wrong')}`, 'A 3 new -')
  say('S 4 dev ota/devices/inform/number-of-dev', 'S 5 dev ota/devices/inform/other')
  say('G 6 dev -', 'G 7 new -')
  await until('the answers', () => lines().length === 7)
  expect(lines().sort()).toEqual(['1 1', '2 0', '3 0', '4 1', '5 0', '6 0', '7 1'])
  expect(refreshes).toBe(1)
})

it('lines that come in pieces are read', async () => {
  await listen()
  const { write, lines } = await plugin()
  const line = `A 1 dev ${hex('right')}\n`
  for (const letter of line) {
    write(letter)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await until('the answer', () => lines().length === 1)
})

it('several connections of a device count once, and R forgets all presence', async () => {
  await listen()
  const { say } = await plugin()
  say('C a', 'C a', 'U a ota/device/inform/a', 'D a', 'D a', 'C b', 'R', 'C c')
  await until('all', () => heard.includes('connected c'))
  expect(heard).toEqual([
    'connected a',
    'subscribed a ota/device/inform/a',
    'disconnected a',
    'connected b',
    'reset',
    'connected c',
  ])
})

it('presence is unknown when the plugin is gone, and a newer plugin connection takes over from an older one', async () => {
  await listen()
  const first = await plugin()
  first.say('C a')
  await until('a', () => heard.includes('connected a'))
  const second = await plugin()
  await until('the older to be closed', () => first.isClosed())
  expect(heard).not.toContain('reset')
  second.say('R', 'C b')
  await until('b', () => heard.includes('connected b'))
  second.end()
  await until('the reset', () => heard.filter((event) => event === 'reset').length === 2)
})

it('the bridge asks the plugin to end the sessions of a username', async () => {
  const server = await listen()
  server.dropSessions('nobody-listens')
  const { say, lines } = await plugin()
  say('C a')
  await until('a', () => heard.includes('connected a'))
  server.dropSessions('a')
  await until('the line', () => lines().length === 1)
  expect(lines()).toEqual(['K a'])
})

it.each([
  ['a malformed line', 'GET / HTTP/1.1\r\n'],
  ['a line without an end', 'A'.repeat(5000)],
  ['a line that is too long', `A 1 dev ${'ab'.repeat(3000)}\n`],
])('%s closes the connection of the plugin', async (_what, garbage) => {
  const { counts } = await listen()
  const { write, isClosed } = await plugin()
  write(garbage)
  await until('the end', isClosed)
  expect(counts.garbled).toBe(1)
})

it("the socket is for its owner and group alone, and replaces a dead bridge's socket", async () => {
  const first = await listen()
  expect(statSync(path).mode & 0o777).toBe(0o660)
  await listen()
  await first.close()
  const { say, lines } = await plugin()
  say(`A 1 dev ${hex('right')}`)
  await until('the answer', () => lines().length === 1)
})

it('a file that is not a socket is left alone', async () => {
  writeFileSync(path, 'precious')
  await expect(listen()).rejects.toThrow('no socket')
})
