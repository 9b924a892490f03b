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
} from '../../src/hub/frames.ts'

type Status = ItemResult['status']

/** The Worker as a bridge sees it: real HTTP and a real WebSocket, with answers that a test decides. */
export interface FakeWorker {
  url: string
  key: string
  /** Every batch that was answered with 200. */
  batches: { upTo: number | undefined; items: BatchItem[] }[]
  /** All items that were taken, in order. */
  taken: BatchItem[]
  credits: FrameFromBridge[]
  authRequests: Record<string, string>[]
  aclRequests: Record<string, string>[]
  sockets: Set<WebSocket>
  /** What decides over an item; default: taken. */
  judge: (item: BatchItem) => Status
  /** Answers the whole batch with this status instead. */
  refuse: (items: BatchItem[]) => { status: number; headers?: Record<string, string> } | undefined
  /** username → password of those who may connect; `numbers`: username → number for the later family. */
  users: Map<string, string>
  numbers: Map<string, string>
  /** What each hello is answered. */
  lease: { number: number; active: boolean }
  /** Cuts every connection and accepts none. */
  away: boolean
  /** The Worker's clock. */
  now: () => number
  notices(...items: NoticeFrame[]): void
  send(frame: object): void
  close(): Promise<void>
}

const KEY = 'bridge-key'

export async function startFakeWorker(): Promise<FakeWorker> {
  const http = createServer((request, response) => {
    if (fake.away) {
      request.socket.destroy()
      return
    }
    void answer(request, response)
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

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = JSON.parse(await text(request))
    const reply = (status: number, json: object, headers = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(json))
    if (request.headers.authorization !== `Bearer ${KEY}`) return void reply(401, {})
    switch (request.url) {
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
        const results = items.map((item) => ({ id: item.id, status: fake.judge(item) }))
        fake.batches.push({ upTo, items })
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
    refuse: () => undefined,
    users: new Map(),
    numbers: new Map(),
    lease: { number: 1, active: true },
    away: false,
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

/** Looks again and again until the condition gives a value, at most `withinMs`. */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | null,
  withinMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const value = condition()
    if (value !== undefined && value !== false && value !== null) return value
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
