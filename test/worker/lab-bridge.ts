import { env, exports } from 'cloudflare:workers'
import { expect } from 'vitest'
import { hubName, hubStub } from '../../src/hub/hub.ts'
import type { BatchItemInput, ItemResult, NoticeFrame } from '../../src/protocol/bridge.ts'
import type { Notice } from '../../src/protocol/device.ts'
import { type Client, makeClient } from './api.ts'
import { moveClock, until } from './lab-clock.ts'

/** A bridge whose socket and batches the test controls. */
export interface LabBridge {
  client: Client
  /** Notices that came and that the test has not taken yet. */
  frames: NoticeFrame[]
  replies: { topic: string; payload: string }[]
  drops: string[]
  /** Opens the socket, or opens it again, with this credit. */
  connect: (credit?: number) => Promise<void>
  grant: (credit: number) => void
  close: () => void
  /** Waits for the next notice for the device and takes it out of `frames`. */
  notice: (device: { id: string; number: string }) => Promise<{ frame: NoticeFrame; notice: Notice }>
  /** Waits until everything that the hub has sent is in `frames`, `replies` and `drops`. */
  flushed: () => Promise<void>
  /** Posts items, each with an id of its own, and `upTo` (by default now). Returns their results. */
  post: (items: Item[], upTo?: number) => Promise<ItemResult[]>
  /** Moves the clock by `ms`, while the bridge keeps posting empty batches, so that there is no outage. */
  idleFor: (ms: number) => Promise<void>
  /** Posts `sent` and the result for a notice, as if the bridge had published it. */
  publish: (frame: NoticeFrame, result?: 'taken' | 'offline') => Promise<void>
}

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> & { id?: string } : never
export type Item = Unnumbered<BatchItemInput>

export const sent = ({ notice }: NoticeFrame): Item => ({ kind: 'sent', notice })
export const taken = ({ notice }: NoticeFrame, result: 'taken' | 'offline' | 'returned' = 'taken'): Item => ({
  kind: 'taken',
  notice,
  result,
})

/** Less than two minutes, since a longer gap between batches is an outage. */
const IDLE_STEP_MS = 100_000
const MARKER = 'test/marker'
let itemNumber = 0
let markerNumber = 0

/** Makes a bridge of the tenant with a key of its own, and connects it. */
export async function makeBridge(tenantId: string, name = 'default', credit = 1000): Promise<LabBridge> {
  const client = await makeClient('bridge', tenantId, name)
  const markers = new Set<string>()
  let socket: WebSocket
  let isOpen = false
  const hear = ({ data }: MessageEvent) => {
    const frame = JSON.parse(data as string)
    if (frame.t === 'notices') bridge.frames.push(...frame.items)
    if (frame.t === 'reply' && frame.topic === MARKER) markers.add(frame.payload)
    else if (frame.t === 'reply') bridge.replies.push(frame)
    if (frame.t === 'drop') bridge.drops.push(frame.username)
  }
  const bridge: LabBridge = {
    client,
    frames: [],
    replies: [],
    drops: [],
    connect: async (credit = 1000) => {
      const response = await exports.default.fetch('http://edge-ota.test/bridge/v1/socket', {
        headers: { upgrade: 'websocket', authorization: `Bearer ${client.key}` },
      })
      socket = response.webSocket!
      socket.accept()
      socket.addEventListener('message', hear)
      isOpen = true
      socket.send(JSON.stringify({ v: 1, t: 'hello', bridge: name, credit }))
    },
    grant: (add) => socket.send(JSON.stringify({ v: 1, t: 'credit', add })),
    close: () => {
      isOpen = false
      socket.close(1000, 'bye')
    },
    notice: async (device) => {
      const find = () => bridge.frames.findIndex((frame) => frame.notice.device === device.id)
      await until(`a notice for ${device.number}`, () => find() >= 0)
      const [frame] = bridge.frames.splice(find(), 1)
      return { frame: frame!, notice: JSON.parse(frame!.payload) }
    },
    flushed: async () => {
      if (!isOpen) return
      const marker = String(++markerNumber)
      await hubStub(env, hubName(tenantId, name)).reply(MARKER, marker)
      await until('the socket is flushed', () => markers.has(marker))
    },
    post: async (items, upTo) => {
      const numbered = items.map((item) => ({ id: `i${++itemNumber}`, ...item }))
      const body = { bridge: name, upTo: upTo ?? Date.now(), items: numbered }
      const answer = await client.call('POST', '/bridge/v1/messages', body)
      expect(answer.status, JSON.stringify(answer.body)).toBe(200)
      expect(answer.body.results).toHaveLength(items.length)
      return answer.body.results
    },
    idleFor: async (ms) => {
      for (let left = ms; left > 0; left -= IDLE_STEP_MS) {
        moveClock(Math.min(left, IDLE_STEP_MS))
        // Of a batch without items the hub hears just this.
        await hubStub(env, hubName(tenantId, name)).batchReceived(Date.now(), undefined, {})
      }
    },
    publish: async (frame, result = 'taken') => {
      const results = await bridge.post([sent(frame), taken(frame, result)])
      expect(results.map(({ status }) => status)).toEqual(['taken', 'taken'])
    },
  }
  await bridge.connect(credit)
  return bridge
}
