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
  /** Returns false if the socket is not open. The frame is lost then, and the next hello makes up for it. */
  send(frame: Unversioned<FrameFromBridge>): boolean
  isOpen(): boolean
  /** Says hello again: the hub tells whether this bridge is the active one, and the credit starts anew. */
  askForLease(): void
  /** Gives the lease back and closes, within 1 s. */
  stop(): Promise<void>
  counts: { connects: number; unreadable: number }
}

/** Pings are the sign of life that holds the lease. */
const PING_INTERVAL_MS = LEASE_MS / 3
const PONG_WITHIN_MS = 10_000
const CLOSE_WITHIN_MS = 1_000
const HANDSHAKE_TIMEOUT_MS = 10_000
const MAX_FRAME_BYTES = 16 * 1024 * 1024

/** Keeps one WebSocket to the hub open, with backoff between tries (src/README.md#objects). */
export function connectHub(options: {
  workerUrl: string
  bridgeKey: string
  bridge: string
  /** Names the bridge; read for each hello, since a new spool has a new name. */
  instance: () => string
  /** Read for each hello: how many notices the hub may send. */
  credit: () => number
  onFrame: (frame: FrameToBridge) => void
  onOpen?: () => void
  backoffBaseMs: number
  log: Log
}): HubSocket {
  const { log } = options
  const counts = { connects: 0, unreadable: 0 }
  const logLost = limited((times) =>
    log.warn({ code: 'bridge.hub_lost', times, status: refusal }, 'no connection to the hub'),
  )
  const logUnreadable = limited((times) =>
    log.warn({ code: 'bridge.frame_unreadable', times }, 'the hub sent a frame that this bridge cannot read'),
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
      log.info({ code: 'bridge.hub_connected' }, 'connected to the hub')
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
    // 'close' follows each error. The error is not logged, since its text may hold the address.
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
    send({ t: 'hello', bridge: options.bridge, instance: options.instance(), credit: options.credit() })

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
    askForLease: () => void hello(),
    async stop() {
      stopped = true
      clearTimeout(reconnect)
      const last = socket
      if (!last) return
      const closed = new Promise((resolve) => last.once('close', resolve))
      send({ t: 'bye' })
      last.close(1000)
      // A hub that does not answer the close frame must not delay the end.
      const force = setTimeout(() => last.terminate(), CLOSE_WITHIN_MS)
      await closed
      clearTimeout(force)
    },
  }
}
