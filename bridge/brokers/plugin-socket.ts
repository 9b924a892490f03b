import { once } from 'node:events'
import { chmodSync, lstatSync, renameSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import type { Credentials, Knowledge } from '../credentials.ts'
import { type Log, limited } from '../log.ts'
import { createPresence, type Presence } from '../presence.ts'
import type { BrokerEvents } from './broker.ts'
import { MAX_LINE_LENGTH, type PluginLine, readPluginLine } from './plugin-line.ts'

/** Where a Mosquitto plugin asks who may connect, and says who is connected. */
export interface PluginSocket {
  /** Ends every connection of a username at the broker. */
  dropSessions(username: string): void
  isConnected(): boolean
  counts: Record<string, number>
  close(): Promise<void>
}

export interface PluginSocketOptions {
  /** PLUGIN_SOCKET: only its owner and group may connect. */
  path: string
  credentials: Pick<Credentials, 'check' | 'maySubscribe' | 'isComplete' | 'refresh'>
  events: Pick<BrokerEvents, 'connected' | 'disconnected' | 'subscribed'>
  /** All that was said of presence is void. */
  reset: () => void
  log: Log
}

/** A plugin that does not read what it is told is no use, and must not fill the memory. */
const MAX_UNREAD_BYTES = 1024 * 1024
const OWNER_AND_GROUP = 0o660

/** Rejects where the path is taken by something that is no socket, or cannot be made. */
export async function listenForPlugin(options: PluginSocketOptions): Promise<PluginSocket> {
  const { path, credentials, events, log } = options
  const counts = { plugins: 0, asked: 0, allowed: 0, unknown: 0, garbled: 0, dropped: 0 }
  const logGarbled = limited((count) => log.warn(count, 'the broker’s plugin said what it never says'))
  let current: Socket | undefined
  let presence: Presence | undefined
  let closing = false

  /** Whoever was connected is not known to be any more. */
  function forget(): void {
    presence = createPresence(events)
    options.reset()
  }

  function answer(socket: Socket, number: string, decision: Knowledge): void {
    counts.asked++
    if (decision === 'allow') counts.allowed++
    if (decision === 'unknown') {
      // A no for now; once the feed has brought the device, its next try finds it.
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
        void credentials
          .check(line.username, line.password)
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
      case 'R':
        forget()
    }
  }

  const server = createServer((socket) => {
    counts.plugins++
    // One bridge, one broker: the newer connection is the broker after its restart.
    current?.destroy()
    current = socket
    log.info('the broker’s plugin is connected')
    let rest = ''
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const text of lines) {
        const line = text.length > MAX_LINE_LENGTH ? undefined : readPluginLine(text)
        // A line may have been the last of this connection.
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
      if (closing) return // the devices stay connected; the next run asks who they are
      log.warn('the broker’s plugin is gone')
      forget()
    })
  })

  function garbled(socket: Socket): void {
    counts.garbled++
    logGarbled()
    socket.destroy()
  }

  refuseOtherFiles(path)
  // Made beside its place and then moved there, over what an earlier run left: so there is no moment without it, and
  // a bridge that ends does not remove the socket of the one that took over.
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
