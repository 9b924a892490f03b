import WebSocket from 'ws'
import {
  type BatchItemInput,
  FRAME_VERSION,
  type FrameToBridge,
  MAX_CREDIT,
} from '../../src/protocol/bridge.ts'

/** Plays a bridge with all its devices by HTTP batches, so that only the Worker is measured. */
export interface Player {
  /** The latest notice of each username. */
  notices: Map<string, Notice>
  /** Resolves once `count` devices have a notice. */
  untilNoticed(count: number): Promise<void>
  /** Resolves once `sent` and `taken` of all notices were posted. */
  settled(): Promise<void>
  /** Posts messages of devices in batches, `inFlight` batches at a time. Returns the number of messages. */
  say(items: Iterable<Said>, batchSize: number, inFlight: number): Promise<number>
  /** Called for each new notice, with the time by `performance.now()`. */
  onNotice: ((username: string, at: number) => void) | undefined
  close(): Promise<void>
}

export interface Notice {
  task: string
  device: string
  id: string
}

export interface Said {
  username: string
  topic: 'progress' | 'inform'
  body: object
}

const TOPICS = { progress: 'ota/device/progress', inform: 'ota/device/inform' }
const TAKEN_EVERY_MS = 5
const RETRIES = 5

/**
 * Connects as a bridge. With `isActive: false` another bridge holds the lease and gets the notices, and this one only
 * posts messages of devices.
 */
export async function connectPlayer(
  local: { url: string; bridgeKey: string },
  { isActive }: { isActive: boolean } = { isActive: true },
): Promise<Player> {
  const authorization = `Bearer ${local.bridgeKey}`
  const notices = new Map<string, Notice>()
  const waiting: { count: number; resolve: () => void }[] = []
  let seq = 0
  const taken: BatchItemInput[] = []
  let settling: Promise<void> | undefined
  let isClosed = false

  async function post(items: BatchItemInput[]): Promise<void> {
    let left = items
    for (let tries = 0; left.length > 0; tries++) {
      if (tries > RETRIES) throw new Error(`${left.length} items were not taken`)
      const response = await fetch(`${local.url}/bridge/v1/messages`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify({
          bridge: 'default',
          ...(isActive && { lease: 1, upTo: Date.now() }),
          items: left,
        }),
      })
      if (!response.ok) throw new Error(`the batch was refused: ${response.status} ${await response.text()}`)
      const { results } = (await response.json()) as { results: { id: string; status: string }[] }
      const again = new Set(results.filter(({ status }) => status === 'retry').map(({ id }) => id))
      const refused = results.find(({ status }) => status === 'rejected')
      if (refused) throw new Error(`an item was rejected: ${JSON.stringify(refused)}`)
      left = left.filter(({ id }) => again.has(id))
    }
  }

  const mark = () => ({ id: `b${++seq}`, ...(isActive && { lease: 1, seq }) })

  /** As the real bridge does: posts `sent` and `taken` of several notices together, then returns their credit. */
  async function settle(): Promise<void> {
    while (taken.length > 0 && !isClosed) {
      const items = taken.splice(0, MAX_CREDIT)
      await post(items)
      const add = items.filter(({ kind }) => kind === 'taken').length
      if (add > 0) socket?.send(JSON.stringify({ v: FRAME_VERSION, t: 'credit', add }))
    }
    settling = undefined
  }

  const player: Player = {
    notices,
    onNotice: undefined,
    untilNoticed: (count) =>
      notices.size >= count ? Promise.resolve() : new Promise((resolve) => waiting.push({ count, resolve })),
    async settled() {
      while (settling) await settling
    },
    async say(items, batchSize, inFlight) {
      const iterator = items[Symbol.iterator]()
      let count = 0
      const next = () => {
        const batch: BatchItemInput[] = []
        while (batch.length < batchSize) {
          const { value, done } = iterator.next()
          if (done) break
          const { username, topic, body } = value
          const payload = Buffer.from(JSON.stringify(body)).toString('base64')
          batch.push({ ...mark(), kind: 'message', username, topic: TOPICS[topic], payload })
        }
        count += batch.length
        return batch
      }
      await Promise.all(
        Array.from({ length: inFlight }, async () => {
          for (let batch = next(); batch.length > 0; batch = next()) await post(batch)
        }),
      )
      return count
    },
    async close() {
      isClosed = true
      await settling
      socket?.close()
    },
  }

  const socket = isActive ? await open() : undefined
  return player

  async function open(): Promise<WebSocket> {
    const socket = new WebSocket(`${local.url.replace(/^http/, 'ws')}/bridge/v1/socket`, {
      headers: { authorization },
      maxPayload: 64 * 1024 * 1024,
    })
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data)) as FrameToBridge
      if (frame.t !== 'notices') return
      const at = performance.now()
      for (const { notice, username } of frame.items) {
        notices.set(username, notice)
        player.onNotice?.(username, at)
        taken.push({ ...mark(), kind: 'sent', notice }, { ...mark(), kind: 'taken', notice, result: 'taken' })
      }
      while (waiting[0] && notices.size >= waiting[0].count) waiting.shift()!.resolve()
      settling ??= new Promise((resolve) => setTimeout(resolve, TAKEN_EVERY_MS)).then(settle)
    })
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    socket.send(JSON.stringify({ v: FRAME_VERSION, t: 'hello', bridge: 'default', credit: MAX_CREDIT }))
    return socket
  }
}
