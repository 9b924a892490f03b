import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../env.ts'
import { taskStub } from '../tasks/task-stub.ts'
import {
  FRAME_VERSION,
  type FrameToBridge,
  frameFromBridge,
  MAX_CREDIT,
  type NoticeFrame,
  PING,
  PONG,
  readFrame,
} from './frames.ts'
import {
  forgetPending,
  hasPending,
  keepPending,
  type RejectionBatch,
  readAllPending,
  readPending,
  writeRejections,
} from './rejections.ts'

/** What a socket keeps over hibernation. */
interface Attachment {
  bridge: string
  /** Notices that the bridge will still take. */
  credit: number
}

/** How far a bridge has handed over (PROTOCOL.md, 4, "An outage fails no device"). */
export interface HandedOver {
  /** Worker time in ms up to which everything was handed over; 0 before the first batch. */
  upTo: number
  /** Silences are counted from here at the earliest: when the bridge last came back from an outage. */
  steadySince: number
}

export interface HubStatus extends HandedOver {
  connected: boolean
  credit: number
  /** Messages that were rejected, by reason, since the hub exists. */
  rejected: Record<string, number>
}

export interface Preparation {
  /** How many notices the bridge would take now. */
  credit: number
  /** The first of `want` ids for notices, in a row. */
  firstNoticeId: number
}

/** A bridge that says nothing for longer was away; a short gap is only a slow batch. */
const OUTAGE_MS = 120_000
const MAX_WAITERS = 10_000
const REJECTIONS_WRITE_MS = 60_000
const MAX_FRAME_BYTES = 64 * 1024

/**
 * Holds one bridge's sockets, the counter of notice ids, and how far the bridge has handed over. It knows sockets
 * and frames, never tasks: who waits for credit leaves a return address.
 */
export class BridgeHub extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG))
  }

  // ---- For the tasks ------------------------------------------------------------------------------------

  /**
   * Ids for `want` notices, each greater than `above`, and the credit there is for them. Where it falls short,
   * the address is called back as soon as there is more; null for a notice that needs no bridge.
   */
  prepare(want: number, above: number, returnAddress: string | null): Preparation {
    const credit = this.#credit()
    if (credit < want && returnAddress !== null) this.#addWaiter(returnAddress)
    const { kv } = this.ctx.storage
    const firstNoticeId = Math.max(
      kv.get<number>('nextNoticeId') ?? 0,
      Math.floor(Date.now() / 1000),
      above + 1,
    )
    kv.put('nextNoticeId', firstNoticeId + want)
    return { credit, firstNoticeId }
  }

  /** Hands notices to the bridge as far as its credit goes; answers how many, from the front. */
  offer(notices: NoticeFrame[], returnAddress: string): number {
    let taken = 0
    for (const socket of this.ctx.getWebSockets()) {
      const attachment = attachmentOf(socket)
      const items = notices.slice(taken, taken + (attachment?.credit ?? 0))
      if (!attachment || items.length === 0) continue
      if (!send(socket, { v: FRAME_VERSION, t: 'notices', items })) continue
      socket.serializeAttachment({ ...attachment, credit: attachment.credit - items.length })
      taken += items.length
    }
    if (taken < notices.length) this.#addWaiter(returnAddress)
    return taken
  }

  /** Publishes once, unacknowledged: the answer that nothing is due. */
  reply(topic: string, payload: string): void {
    const [socket] = this.ctx.getWebSockets()
    if (socket) send(socket, { v: FRAME_VERSION, t: 'reply', topic, payload })
  }

  /** Ends the sessions of a username. */
  drop(username: string): void {
    for (const socket of this.ctx.getWebSockets()) send(socket, { v: FRAME_VERSION, t: 'drop', username })
  }

  handedOver(): HandedOver {
    const { kv } = this.ctx.storage
    return { upTo: kv.get<number>('upTo') ?? 0, steadySince: kv.get<number>('steadySince') ?? 0 }
  }

  // ---- For the Worker -----------------------------------------------------------------------------------

  /** A batch came: how far it reaches (undefined: no further than before), and what was rejected in it, by reason. */
  batchReceived(upTo: number | undefined, rejected: Record<string, number>): void {
    const { kv } = this.ctx.storage
    const now = Date.now()
    const before = this.handedOver().upTo
    // A bridge cannot have handed over what is still to come.
    const next = Math.min(upTo ?? 0, now)
    if (next > before) {
      if (next - before > OUTAGE_MS) kv.put('steadySince', now)
      kv.put('upTo', next)
    }
    if (Object.keys(rejected).length > 0) {
      const total = kv.get<Record<string, number>>('rejected') ?? {}
      for (const [reason, count] of Object.entries(rejected)) total[reason] = (total[reason] ?? 0) + count
      kv.put('rejected', total)
    }
  }

  /**
   * Keeps rejected messages until the next minute writes them to D1: at most one write a minute a device, however
   * many a stranger sends.
   */
  async keepRejections(batches: RejectionBatch[]): Promise<void> {
    for (const batch of batches) keepPending(this.ctx.storage, batch)
    if ((await this.ctx.storage.getAlarm()) === null) {
      await this.ctx.storage.setAlarm(Date.now() + REJECTIONS_WRITE_MS)
    }
  }

  /** What is kept and not yet written of a device. */
  pendingRejections(deviceId: string): RejectionBatch | null {
    return readPending(this.ctx.storage, deviceId)
  }

  override async alarm(): Promise<void> {
    const pending = readAllPending(this.ctx.storage)
    await writeRejections(this.env.DB, pending)
    for (const batch of pending) forgetPending(this.ctx.storage, batch)
    if (hasPending(this.ctx.storage)) await this.ctx.storage.setAlarm(Date.now() + REJECTIONS_WRITE_MS)
  }

  status(): HubStatus {
    return {
      ...this.handedOver(),
      connected: this.ctx.getWebSockets().length > 0,
      credit: this.#credit(),
      rejected: this.ctx.storage.kv.get<Record<string, number>>('rejected') ?? {},
    }
  }

  // ---- The sockets --------------------------------------------------------------------------------------

  /** The Worker has checked the key; the URL carries nothing but the upgrade. */
  override async fetch(): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair()
    this.ctx.acceptWebSocket(server)
    send(server, { v: FRAME_VERSION, t: 'welcome', now: Date.now() })
    return new Response(null, { status: 101, webSocket: client })
  }

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    const frame =
      typeof message === 'string' && message.length <= MAX_FRAME_BYTES
        ? readFrame(frameFromBridge, message)
        : undefined
    if (!frame) {
      socket.close(1008, 'not a frame of this version')
      return
    }
    if (frame.t === 'hello') {
      // The newest socket of a bridge is the one that works: an older one is a connection that died unseen.
      for (const other of this.ctx.getWebSockets()) if (other !== socket) other.close(1012, 'replaced')
      socket.serializeAttachment({ bridge: frame.bridge, credit: frame.credit } satisfies Attachment)
    } else {
      const attachment = attachmentOf(socket)
      if (!attachment) {
        socket.close(1008, 'hello comes first')
        return
      }
      const credit = Math.min(attachment.credit + frame.add, MAX_CREDIT)
      socket.serializeAttachment({ ...attachment, credit })
    }
    await this.#callWaiters()
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    // 1005 and 1006 say that no code came; they may not be sent.
    socket.close(code === 1005 || code === 1006 ? 1000 : code, 'closed')
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    socket.close(1011, 'socket error')
  }

  #credit(): number {
    return this.ctx.getWebSockets().reduce((sum, socket) => sum + (attachmentOf(socket)?.credit ?? 0), 0)
  }

  #addWaiter(returnAddress: string): void {
    const waiters = this.ctx.storage.kv.get<string[]>('waiters') ?? []
    if (waiters.includes(returnAddress) || waiters.length >= MAX_WAITERS) return
    this.ctx.storage.kv.put('waiters', [...waiters, returnAddress])
  }

  /** A lost call costs only time: a task that waits also looks by itself. */
  async #callWaiters(): Promise<void> {
    const waiters = this.ctx.storage.kv.get<string[]>('waiters') ?? []
    if (waiters.length === 0 || this.#credit() === 0) return
    this.ctx.storage.kv.delete('waiters')
    await Promise.allSettled(waiters.map((address) => taskStub(this.env, address).wake()))
  }
}

const attachmentOf = (socket: WebSocket) => socket.deserializeAttachment() as Attachment | null

/** False where the socket is already gone. */
function send(socket: WebSocket, frame: FrameToBridge): boolean {
  try {
    socket.send(JSON.stringify(frame))
    return true
  } catch {
    return false
  }
}
