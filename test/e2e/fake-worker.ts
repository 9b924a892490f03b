import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { type WebSocket, WebSocketServer } from 'ws'
import {
  type BatchItem,
  batchEnvelope,
  batchItem,
  FRAME_VERSION,
  type FrameFromBridge,
  frameFromBridge,
  type ItemResult,
  type NoticeFrame,
  PING,
  PONG,
  readFrame,
} from '../../src/protocol/bridge.ts'
import { credentialKey, type FeedItem, type FeedPage } from '../../src/protocol/credentials-feed.ts'
import { hashPassword } from '../../src/protocol/passwords.ts'

type Status = ItemResult['status']

/** Stands in for the Worker: real HTTP and a real WebSocket, with answers that the test sets. */
export interface FakeWorker {
  url: string
  key: string
  /** Every batch that was answered with 200. */
  batches: { upTo: number | undefined; lease: number | undefined; items: BatchItem[] }[]
  /** All items that were taken, in order. */
  taken: BatchItem[]
  credits: FrameFromBridge[]
  authRequests: Record<string, string>[]
  aclRequests: Record<string, string>[]
  sockets: Set<WebSocket>
  /** Decides the status of an item; by default `taken`. */
  judge: (item: BatchItem) => Status
  /** The code of the items that are to be sent again. */
  codeOfRetry: string | undefined
  /** If it returns a status, the whole batch is answered with it. */
  refuse: (items: BatchItem[]) => { status: number; headers?: Record<string, string> } | undefined
  /** Passwords by username of devices that may connect; `numbers`: device numbers by username, for the later family. */
  users: Map<string, string>
  numbers: Map<string, string>
  /** The feed of credentials, made from `users` and `numbers`. */
  feed: FakeFeed
  /** The lease that answers each `hello`. */
  lease: { number: number; active: boolean }
  /** True: cuts every connection and accepts none. */
  away: boolean
  /** True: takes requests and never answers them. */
  silent: boolean
  /** The Worker's clock, in ms since 1970. */
  now: () => number
  notices(...items: NoticeFrame[]): void
  send(frame: object): void
  close(): Promise<void>
}

export interface FakeFeed {
  /** The most changes in a page. */
  pageSize: number
  /** A cursor of another scope makes the bridge read all anew. */
  scope: number
  salt: string
  /** True: answers 503. */
  away: boolean
  /** Awaited before each page is answered. */
  beforePage: (after: string | undefined) => Promise<void>
  pages: FeedPage[]
}

const KEY = 'bridge-key'

export async function startFakeWorker(): Promise<FakeWorker> {
  const http = createServer((request, response) => {
    if (fake.away) {
      request.socket.destroy()
      return
    }
    if (!fake.silent) void answer(request, response)
  })
  const wss = new WebSocketServer({ noServer: true })
  http.on('upgrade', (request, socket, head) => {
    if (fake.away || request.headers.authorization !== `Bearer ${KEY}`) {
      socket.destroy()
      return
    }
    wss.handleUpgrade(request, socket, head, (ws) => {
      fake.sockets.add(ws)
      ws.send(JSON.stringify({ v: FRAME_VERSION, t: 'welcome', now: fake.now() }))
      ws.on('close', () => fake.sockets.delete(ws))
      ws.on('message', (data) => {
        if (String(data) === PING) return ws.send(PONG)
        const frame = readFrame(frameFromBridge, String(data))
        if (!frame) throw new Error(`the bridge sent a frame that is none: ${data}`)
        fake.credits.push(frame)
        if (frame.t === 'hello') ws.send(JSON.stringify({ v: FRAME_VERSION, t: 'lease', ...fake.lease }))
      })
    })
  })

  /** For each username its latest change and its credentials then. */
  const changes = new Map<string, { seq: number; was: string }>()
  const passwordHashes = new Map<string, string>()
  let newest = 0

  async function feedPage(after: string | undefined): Promise<FeedPage> {
    const { scope, salt, pageSize } = fake.feed
    for (const username of new Set([...changes.keys(), ...fake.users.keys()])) {
      const was = JSON.stringify([fake.users.get(username), fake.numbers.get(username)])
      if (changes.get(username)?.was !== was) changes.set(username, { seq: ++newest, was })
    }
    const [, seq, cursorScope] = /^(\d+)\.(.+)$/.exec(after ?? '') ?? []
    const reset = cursorScope !== `${scope}${salt}`
    const from = reset ? 0 : Number(seq)
    const page = [...changes]
      .filter(([, change]) => change.seq > from)
      .sort(([, a], [, b]) => a.seq - b.seq)
      .slice(0, pageSize)
    const items = await Promise.all(page.map(([username]) => feedItem(username)))
    const last = page.at(-1)?.[1].seq ?? from
    return { salt, items, cursor: `${last}.${scope}${salt}`, more: last < newest, reset }
  }

  async function feedItem(username: string): Promise<FeedItem> {
    const key = credentialKey(fake.feed.salt, username)
    const password = fake.users.get(username)
    if (password === undefined) return { key, passwordHash: null, number: null, state: 'gone' }
    if (password !== '' && !passwordHashes.has(password)) {
      passwordHashes.set(password, await hashPassword(password))
    }
    const passwordHash = passwordHashes.get(password) ?? null
    return { key, passwordHash, number: fake.numbers.get(username) ?? null, state: 'enabled' }
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://worker')
    const reply = (status: number, json: object, headers = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(json))
    if (request.headers.authorization !== `Bearer ${KEY}`) return void reply(401, {})
    const sent = request.method === 'GET' ? 'null' : await text(request)
    if (!isJson(sent)) return void reply(400, {})
    const body = JSON.parse(sent)
    switch (pathname) {
      case '/bridge/v1/credentials': {
        const after = searchParams.get('after') ?? undefined
        await fake.feed.beforePage(after)
        if (fake.away) return void request.socket.destroy()
        if (fake.feed.away) return void reply(503, {})
        const page = await feedPage(after)
        fake.feed.pages.push(page)
        return void reply(200, page)
      }
      case '/broker/v1/auth':
        fake.authRequests.push(body)
        return void reply(200, { result: fake.users.get(body.username) === body.password ? 'allow' : 'deny' })
      case '/broker/v1/acl': {
        fake.aclRequests.push(body)
        const own = `ota/devices/inform/${fake.numbers.get(body.username)}`
        return void reply(200, { result: body.topic === own ? 'allow' : 'deny' })
      }
      case '/bridge/v1/messages': {
        const envelope = batchEnvelope.parse(body)
        const items = envelope.items.map((item) => batchItem.parse(item))
        const refusal = fake.refuse(items)
        if (refusal) return void reply(refusal.status, {}, refusal.headers)
        const upTo = envelope.upTo
        const results = items.map((item) => {
          const status = fake.judge(item)
          return { id: item.id, status, ...(status === 'retry' && { code: fake.codeOfRetry }) }
        })
        fake.batches.push({ upTo, lease: envelope.lease, items })
        fake.taken.push(...items.filter((_, at) => results[at]?.status === 'taken'))
        return void reply(200, { results, now: fake.now(), lease: fake.lease.number })
      }
      default:
        reply(404, {})
    }
  }

  http.listen(0, '127.0.0.1')
  await new Promise((resolve) => http.once('listening', resolve))
  const fake: FakeWorker = {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    key: KEY,
    batches: [],
    taken: [],
    credits: [],
    authRequests: [],
    aclRequests: [],
    sockets: new Set(),
    judge: () => 'taken',
    codeOfRetry: undefined,
    refuse: () => undefined,
    users: new Map(),
    numbers: new Map(),
    feed: {
      pageSize: 2_000,
      scope: 1,
      salt: 's'.repeat(43),
      away: false,
      beforePage: async () => {},
      pages: [],
    },
    lease: { number: 1, active: true },
    away: false,
    silent: false,
    now: () => Date.now(),
    notices: (...items) => fake.send({ t: 'notices', items }),
    send: (frame) => {
      for (const ws of fake.sockets) ws.send(JSON.stringify({ v: FRAME_VERSION, ...frame }))
    },
    async close() {
      for (const ws of fake.sockets) ws.terminate()
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  }
  return fake
}

function isJson(sent: string): boolean {
  try {
    JSON.parse(sent)
    return true
  } catch {
    return false
  }
}

/** Polls until the condition returns a value; throws after `withinMs`. */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | null,
  withinMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const value = condition()
    if (value !== undefined && value !== false && value !== null) return value
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
