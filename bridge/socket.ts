import WebSocket from 'ws'
import {
  FRAME_VERSION,
  type FrameFromBridge,
  type FrameToBridge,
  frameToBridge,
  LEASE_MS,
  PING,
  PONG,
  readFrame,
} from '../src/protocol/bridge.ts'
import { backoffMs } from './backoff.ts'
import { type Log, limited } from './log.ts'

type Unversioned<T> = T extends unknown ? Omit<T, 'v'> : never

export interface HubSocket {
  /** False where the socket is not open: what it says is then told by the next hello. */
  send(frame: Unversioned<FrameFromBridge>): boolean
  isOpen(): boolean
  /** Asks once more whether this bridge is the active one; the credit begins anew. */
  ask(): void
  /** Gives the lease back; at most 1 s. */
  stop(): Promise<void>
  counts: { connects: number; unreadable: number }
}

/** Often enough to hold the lease. */
const PING_INTERVAL_MS = LEASE_MS / 3
const PONG_WITHIN_MS = 10_000
const CLOSE_WITHIN_MS = 1_000
const HANDSHAKE_TIMEOUT_MS = 10_000
const MAX_FRAME_BYTES = 16 * 1024 * 1024

/** Keeps one WebSocket to the hub open (ARCHITECTURE.md), for as long as it takes, with backoff between tries. */
export function connectHub(options: {
  workerUrl: string
  bridgeKey: string
  bridge: string
  instance: string
  /** Asked at each connect: how many notices may come. */
  credit: () => number
  onFrame: (frame: FrameToBridge) => void
  onOpen?: () => void
  backoffBaseMs: number
  log: Log
}): HubSocket {
  const { log } = options
  const counts = { connects: 0, unreadable: 0 }
  const logLost = limited((count) => log.warn({ ...count, status: refusal }, 'no connection to the hub'))
  const logUnreadable = limited((count) =>
    log.warn(count, 'the hub sent a frame that this bridge cannot read'),
  )
  let socket: WebSocket | undefined
  let refusal: number | undefined
  let failures = 0
  let stopped = false
  let reconnect: NodeJS.Timeout | undefined

  function open(): void {
    const current = new WebSocket(`${options.workerUrl.replace(/^http/, 'ws')}/bridge/v1/socket`, {
      headers: { authorization: `Bearer ${options.bridgeKey}` },
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      maxPayload: MAX_FRAME_BYTES,
    })
    let ping: NodeJS.Timeout | undefined
    let overdue: NodeJS.Timeout | undefined
    socket = current
    refusal = undefined

    current.on('open', () => {
      counts.connects++
      log.info('connected to the hub')
      hello()
      options.onOpen?.()
      ping = setInterval(() => {
        current.send(PING)
        overdue ??= setTimeout(() => current.terminate(), PONG_WITHIN_MS)
      }, PING_INTERVAL_MS)
    })
    current.on('message', (data, isBinary) => {
      clearTimeout(overdue)
      overdue = undefined
      failures = 0
      const text = String(data)
      if (text === PONG) return
      const frame = isBinary ? undefined : readFrame(frameToBridge, text)
      if (frame) options.onFrame(frame)
      else {
        counts.unreadable++
        logUnreadable()
      }
    })
    current.on('unexpected-response', (_request, response) => {
      refusal = response.statusCode
      response.resume()
      current.terminate()
    })
    // 'close' follows each error; its text may hold the address.
    current.on('error', () => {})
    current.on('close', () => {
      clearInterval(ping)
      clearTimeout(overdue)
      if (socket === current) socket = undefined
      if (stopped) return
      failures++
      logLost()
      reconnect = setTimeout(open, backoffMs(failures, options.backoffBaseMs))
    })
  }

  const hello = () =>
    send({ t: 'hello', bridge: options.bridge, instance: options.instance, credit: options.credit() })

  function send(frame: Unversioned<FrameFromBridge>): boolean {
    if (socket?.readyState !== WebSocket.OPEN) return false
    socket.send(JSON.stringify({ v: FRAME_VERSION, ...frame }))
    return true
  }

  open()
  return {
    counts,
    send,
    isOpen: () => socket?.readyState === WebSocket.OPEN,
    ask: () => void hello(),
    async stop() {
      stopped = true
      clearTimeout(reconnect)
      const last = socket
      if (!last) return
      const closed = new Promise((resolve) => last.once('close', resolve))
      send({ t: 'bye' })
      last.close(1000)
      // A peer that does not answer the close frame must not hold up the end.
      const impatience = setTimeout(() => last.terminate(), CLOSE_WITHIN_MS)
      await closed
      clearTimeout(impatience)
    },
  }
}
