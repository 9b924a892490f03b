import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { WebSocketServer } from 'ws'
import { FRAME_VERSION, PING, PONG } from '../../src/protocol/bridge.ts'
import { credentialKey, type FeedPage, MAX_FEED_ITEMS } from '../../src/protocol/credentials-feed.ts'

/** Stands in for the Worker and takes every batch at once, so that only the bridge is measured. */
export interface InstantWorker {
  url: string
  key: string
  /** Number of items taken. */
  taken: number
  /** While true, batches are answered with 503. */
  away: boolean
  close(): Promise<void>
}

const KEY = 'bench'

const SALT = 'A'.repeat(43)

/** `cursor`: how many of the usernames were read; null: none. */
function credentialsOf(usernames: string[], cursor: string | null): FeedPage {
  const from = Number(cursor ?? 0)
  const page = usernames.slice(from, from + MAX_FEED_ITEMS)
  return {
    salt: SALT,
    cursor: String(from + page.length),
    more: from + page.length < usernames.length,
    reset: cursor === null,
    items: page.map((username) => ({
      key: credentialKey(SALT, username),
      passwordHash: null,
      number: null,
      state: 'enabled' as const,
    })),
  }
}

/** `usernames`: the devices that may connect. */
export async function startInstantWorker(usernames: string[]): Promise<InstantWorker> {
  const worker: InstantWorker = { url: '', key: KEY, taken: 0, away: false, close }
  const server = createServer(async (request, response) => {
    const reply = (body: object) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (request.url?.startsWith('/bridge/v1/credentials')) {
      const { searchParams } = new URL(request.url, 'http://worker')
      return void reply(credentialsOf(usernames, searchParams.get('after')))
    }
    if (request.url?.startsWith('/broker/')) return void reply({ result: 'allow' })
    const body = await text(request)
    if (worker.away) return void response.writeHead(503).end()
    const { items } = JSON.parse(body) as { items: { id: string }[] }
    worker.taken += items.length
    reply({ results: items.map(({ id }) => ({ id, status: 'taken' })), now: Date.now(), lease: 1 })
  })
  const sockets = new WebSocketServer({ noServer: true })
  server.on('upgrade', (request, socket, head) => {
    sockets.handleUpgrade(request, socket, head, (ws) => {
      ws.send(JSON.stringify({ v: FRAME_VERSION, t: 'welcome', now: Date.now() }))
      ws.on('message', (data) => {
        if (String(data) === PING) ws.send(PONG)
        else ws.send(JSON.stringify({ v: FRAME_VERSION, t: 'lease', number: 1, active: true }))
      })
    })
  })
  async function close(): Promise<void> {
    for (const ws of sockets.clients) ws.terminate()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  worker.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return worker
}
