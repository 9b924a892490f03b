import { once } from 'node:events'
import { chmodSync, lstatSync, renameSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import type { Credentials, Knowledge } from '../credentials.ts'
import { type Log, limited } from '../log.ts'
import { createPresence, type Presence } from '../presence.ts'
import type { Shares } from '../shares.ts'
import type { BrokerEvents } from './broker.ts'
import type { Guesses } from './guesses.ts'
import { MAX_LINE_LENGTH, type PluginLine, readPluginLine } from './plugin-line.ts'

/** The socket on which a Mosquitto plugin asks who may connect and says who is connected. */
export interface PluginSocket {
  /** Ends every connection of a username at the broker. */
  dropSessions(username: string): void
  isConnected(): boolean
  counts: Record<string, number>
  close(): Promise<void>
}

export interface PluginSocketOptions {
  /** PLUGIN_SOCKET. Only the owner and the group of the socket may connect. */
  path: string
  credentials: Pick<Credentials, 'check' | 'recall' | 'maySubscribe' | 'isComplete' | 'refresh'>
  shares: Pick<Shares, 'note'>
  guesses: Guesses
  events: Pick<BrokerEvents, 'connected' | 'disconnected' | 'subscribed'>
  /** All earlier events about presence are void. */
  reset: () => void
  log: Log
}

/** A plugin that leaves more unread is cut off, so that it cannot fill the memory. */
const MAX_UNREAD_BYTES = 1024 * 1024
const OWNER_AND_GROUP = 0o660

/** Rejects if the path names a file that is no socket, or if the socket cannot be made there. */
export async function listenForPlugin(options: PluginSocketOptions): Promise<PluginSocket> {
  const { path, credentials, shares, guesses, events, log } = options
  const counts = { plugins: 0, asked: 0, allowed: 0, unknown: 0, garbled: 0, dropped: 0 }
  const logGarbled = limited((times) =>
    log.warn({ code: 'bridge.plugin_line_invalid', times }, 'the plugin of the broker sent an invalid line'),
  )
  let current: Socket | undefined
  let presence: Presence | undefined
  let closing = false

  /** Nothing is known about who is connected. */
  function forget(): void {
    presence = createPresence(events)
    options.reset()
  }

  async function mayConnect({
    username,
    password,
    address = '',
  }: PluginLine & { kind: 'A' }): Promise<Knowledge> {
    const check = () => credentials.check(username, password)
    const recalled = credentials.recall(username, password)
    if (recalled === 'token') return check()
    // The broker stands still until the answer, so it cannot wait.
    const attempt = {
      address,
      username,
      isRemembered: recalled === 'password',
      mayWait: false,
      isGone: () => false,
    }
    const decision = await guesses.verify(attempt, check)
    return decision === 'unavailable' ? 'deny' : decision
  }

  function answer(socket: Socket, number: string, decision: Knowledge): void {
    counts.asked++
    if (decision === 'allow') counts.allowed++
    if (decision === 'unknown') {
      // The answer is no for now. Once the feed has brought the device, its next try succeeds.
      counts.unknown++
      void credentials.refresh()
    }
    send(socket, `${number} ${decision === 'allow' ? 1 : 0}`)
  }

  function send(socket: Socket, line: string): void {
    if (socket.destroyed) return
    if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy()
    else socket.write(`${line}\n`)
  }

  function take(socket: Socket, line: PluginLine): void {
    switch (line.kind) {
      case 'A':
        void mayConnect(line)
          .catch(() => 'deny' as const)
          .then((decision) => answer(socket, line.number, decision))
        return
      case 'G':
        void credentials
          .check(line.username, '')
          .catch(() => 'deny' as const)
          .then((decision) => {
            const isGone = decision === 'unknown' && credentials.isComplete()
            answer(socket, line.number, isGone ? 'allow' : 'deny')
          })
        return
      case 'S':
        answer(socket, line.number, credentials.maySubscribe(line.username, line.filter))
        return
      case 'U':
        events.subscribed(line.username, line.filter)
        return
      case 'C':
        presence?.opened(line.username)
        return
      case 'D':
        presence?.closed(line.username)
        return
      case 'O':
        shares.note(line.username, line.share)
        return
      case 'R':
        forget()
    }
  }

  const server = createServer((socket) => {
    counts.plugins++
    // A bridge serves one broker, so a newer connection is that broker after a restart.
    current?.destroy()
    current = socket
    log.info({ code: 'bridge.plugin_connected' }, 'the plugin of the broker is connected')
    let rest = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const text of lines) {
        const line = text.length > MAX_LINE_LENGTH ? undefined : readPluginLine(text)
        // The line before may have ended this connection.
        if (socket !== current || socket.destroyed) return
        if (line === undefined) return garbled(socket)
        take(socket, line)
      }
      if (rest.length > MAX_LINE_LENGTH) garbled(socket)
    })
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => {
      if (socket !== current) return
      current = undefined
      if (closing) return // the devices stay connected, and the plugin tells the next run about them
      log.warn({ code: 'bridge.plugin_lost' }, 'the plugin of the broker is gone')
      forget()
    })
  })

  function garbled(socket: Socket): void {
    counts.garbled++
    logGarbled()
    socket.destroy()
  }

  refuseOtherFiles(path)
  // The socket is made beside its place and then moved over the one of an earlier run. So there is no moment without a
  // socket, and a bridge that ends does not remove the socket of the bridge that took over.
  const making = `${path}.${process.pid}`
  server.listen(making)
  await once(server, 'listening')
  chmodSync(making, OWNER_AND_GROUP)
  renameSync(making, path)
  forget()

  return {
    counts,
    isConnected: () => current !== undefined,
    dropSessions(username) {
      if (!current) return
      counts.dropped++
      send(current, `K ${username}`)
    },
    async close() {
      closing = true
      current?.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function refuseOtherFiles(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found && !found.isSocket()) throw new Error('PLUGIN_SOCKET names a file that is no socket')
}
