import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { steady } from '../db/steady.ts'
import {
  FRAME_VERSION,
  type FrameFromBridge,
  frameFromBridge,
  MAX_CREDIT,
  type NoticeFrame,
  PING,
  PONG,
  readFrame,
} from '../protocol/bridge.ts'
import { nextAlert, tellAlerts } from './alerts.ts'
import {
  activeSockets,
  askForLease,
  giveLeaseUp,
  leaveLease,
  nextPassing,
  passLeaseOn,
  readLease,
  sendRole,
  standbysOf,
} from './lease.ts'
import { lookForBridge, markHeard, markLeft, markPresent, nextLook } from './presence.ts'
import { hasPending, keepPending, type RejectionBatch, readPending, writePage } from './rejections.ts'
import { findRevoked, nextKeyLook } from './revoked.ts'
import { type Attachment, attachmentOf, keyIdOfRequest, send } from './socket.ts'
import { watchRejections } from './spike.ts'
import { waiterAt } from './waiter.ts'

/** How far a bridge has handed over (src/protocol/README.md#order-and-outages). */
export interface HandedOver {
  /** Worker time in ms up to which everything was handed over; 0 before the first batch. */
  upTo: number
  /** When the bridge last came back from an outage (ms): no silence counts from earlier than this. */
  steadySince: number
}

export interface HubStatus extends HandedOver {
  connected: boolean
  /** Bridges of the same name that wait to take over. */
  standbys: number
  credit: number
  /** How many messages were rejected since the hub exists, by the reason's code; earlier releases counted by text. */
  rejected: Record<string, number>
}

export interface Preparation {
  /** How many notices the bridge would take now. */
  credit: number
  /** The first of `want` consecutive notice ids. */
  firstNoticeId: number
}

/** A bridge that says nothing for longer was away; a short gap is only a slow batch. */
const OUTAGE_MS = 120_000
const MAX_WAITERS = 10_000
const REJECTIONS_WRITE_MS = 60_000
const MAX_FRAME_BYTES = 64 * 1024

const bridgeOf = (hub: string) => hub.slice(hub.indexOf('/') + 1)

/**
 * Holds one bridge's sockets, the counter of notice ids, and how far the bridge has handed over. It knows sockets
 * and frames, never tasks: what waits for credit leaves a return address.
 */
export class BridgeHub extends DurableObject<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, steady(env))
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair(PING, PONG))
  }

  // ---- For the tasks ------------------------------------------------------------------------------------

  /**
   * Returns ids for `want` notices, as far as there is credit for them, each greater than `above`. If the credit falls
   * short, the return address is called as soon as there is more; null for notices that need no bridge.
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
    const count = returnAddress === null ? want : Math.min(want, credit)
    if (count > 0) kv.put('nextNoticeId', firstNoticeId + count)
    return { credit, firstNoticeId }
  }

  /** Hands notices to the bridge as far as its credit goes. Returns how many it took, from the front. */
  offer(notices: NoticeFrame[], returnAddress: string): number {
    let taken = 0
    for (const socket of activeSockets(this.ctx)) {
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

  /** Publishes once, unacknowledged. For the answer that nothing is due. */
  reply(topic: string, payload: string): void {
    this.replyToAll([{ topic, payload }])
  }

  replyToAll(answers: { topic: string; payload: string }[]): void {
    const [socket] = activeSockets(this.ctx)
    if (!socket) return
    for (const answer of answers) send(socket, { v: FRAME_VERSION, t: 'reply', ...answer })
  }

  /**
   * Ends the sockets that were opened with this key, which was revoked, and their lease: the longest waiting standby gets
   * it at once. A holder that is not connected just now may have had this key: it keeps no lease either.
   */
  async revoke(keyId: string): Promise<void> {
    this.#end(this.ctx.getWebSockets(keyId))
    if (activeSockets(this.ctx).length === 0) giveLeaseUp(this.ctx.storage)
    passLeaseOn(this.ctx, Date.now())
    await this.#arm()
    await this.#callWaiters()
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

  /**
   * Notes a batch: how far it reaches (ms; undefined: no further than before), under which lease, and how many of its
   * items were rejected, by reason. Returns the number of the current lease.
   */
  async batchReceived(
    upTo: number | undefined,
    lease: number | undefined,
    rejected: Record<string, number>,
  ): Promise<number> {
    const { kv } = this.ctx.storage
    const now = Date.now()
    this.#rememberName()
    const before = this.handedOver().upTo
    const current = readLease(this.ctx.storage)?.number ?? 0
    // A standby says nothing about what the active bridge handed over, and no batch reaches into the future.
    const next = lease === undefined || lease === current ? Math.min(upTo ?? 0, now) : 0
    if (next > before) {
      if (next - before > OUTAGE_MS) kv.put('steadySince', now)
      kv.put('upTo', next)
    }
    if (Object.keys(rejected).length > 0) {
      const total = kv.get<Record<string, number>>('rejected') ?? {}
      for (const [reason, count] of Object.entries(rejected)) total[reason] = (total[reason] ?? 0) + count
      kv.put('rejected', total)
      const more = Object.values(rejected).reduce((sum, count) => sum + count, 0)
      watchRejections(this.ctx.storage, more, now)
    }
    markHeard(this.ctx, now)
    await this.#arm()
    return current
  }

  /**
   * Keeps rejected messages until they are written to D1, once a minute: however many a device sends, they cost one
   * write.
   */
  async keepRejections(batches: RejectionBatch[]): Promise<void> {
    const { storage } = this.ctx
    if (!hasPending(storage)) storage.kv.put('rejectionsAt', Date.now() + REJECTIONS_WRITE_MS)
    for (const batch of batches) keepPending(storage, batch)
    await this.#arm()
  }

  /** A device's rejected messages that are not in D1 yet. */
  pendingRejections(deviceId: string): RejectionBatch | null {
    return readPending(this.ctx.storage, deviceId)
  }

  override async alarm(): Promise<void> {
    const now = Date.now()
    if ((nextKeyLook(this.ctx) ?? now + 1) <= now) this.#end(await findRevoked(this.ctx, this.env.DB, now))
    lookForBridge(this.ctx, this.handedOver().upTo, now)
    passLeaseOn(this.ctx, now)
    await Promise.all([this.#writeRejections(now), tellAlerts(this.env, this.ctx.storage, this.#name(), now)])
    await this.#arm()
  }

  async #writeRejections(now: number): Promise<void> {
    const { storage } = this.ctx
    if ((storage.kv.get<number>('rejectionsAt') ?? 0) > now) return
    // After each page the alarm returns, so that a takeover waits for one at most.
    let isDone = true
    try {
      isDone = await writePage(this.env.DB, storage)
    } catch (error) {
      logError('hub.rejections_not_written', errorFields(error))
    }
    if (isDone && hasPending(storage)) storage.kv.put('rejectionsAt', now + REJECTIONS_WRITE_MS)
  }

  /** Sets the alarm for the next thing to do. */
  async #arm(): Promise<void> {
    const { storage } = this.ctx
    const times = [
      hasPending(storage) ? (storage.kv.get<number>('rejectionsAt') ?? 0) : null,
      nextLook(storage),
      nextAlert(storage),
      nextPassing(this.ctx),
      nextKeyLook(this.ctx),
    ].filter((at) => at !== null)
    if (times.length === 0) return
    const at = Math.max(Math.min(...times), Date.now())
    const planned = await storage.getAlarm()
    if (planned === null || planned > at) await storage.setAlarm(at)
  }

  /** Stores the hub's name, since the platform does not tell an object its name on every call. */
  #rememberName(): void {
    const { storage, id } = this.ctx
    if (id.name !== undefined && storage.kv.get('name') === undefined) storage.kv.put('name', id.name)
  }

  #name(): string {
    return this.ctx.id.name ?? this.ctx.storage.kv.get<string>('name') ?? ''
  }

  status(): HubStatus {
    return {
      ...this.handedOver(),
      connected: activeSockets(this.ctx).length > 0,
      standbys: standbysOf(this.ctx).length,
      credit: this.#credit(),
      rejected: this.ctx.storage.kv.get<Record<string, number>>('rejected') ?? {},
    }
  }

  // ---- The sockets --------------------------------------------------------------------------------------

  /**
   * Opens a socket for a request of `socketRequest`. The Worker has checked the key; it is looked at again once the
   * socket is accepted. A revocation came either before that look, or it finds the socket.
   */
  override async fetch(request: Request): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair()
    this.ctx.acceptWebSocket(server, [keyIdOfRequest(request)])
    this.#rememberName()
    this.#end(await findRevoked(this.ctx, this.env.DB, Date.now()))
    await this.#arm()
    send(server, { v: FRAME_VERSION, t: 'welcome', now: Date.now() })
    return new Response(null, { status: 101, webSocket: client })
  }

  override async webSocketMessage(socket: WebSocket, message: string | ArrayBuffer): Promise<void> {
    // A bridge may go on sending until it has answered our close frame.
    if (socket.readyState !== WebSocket.OPEN) return
    const frame =
      typeof message === 'string' && message.length <= MAX_FRAME_BYTES
        ? readFrame(frameFromBridge, message)
        : undefined
    if (!frame) {
      socket.close(1008, 'not a frame of this version')
      return
    }
    if (frame.t === 'hello') {
      if (frame.bridge !== bridgeOf(this.#name())) {
        socket.close(1008, 'the key names another bridge')
        return
      }
      this.#welcome(socket, frame, Date.now())
      await this.#arm()
    } else if (frame.t === 'bye') {
      this.#left(socket, true)
      await this.#arm()
      return
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

  #welcome(socket: WebSocket, { instance, credit }: FrameFromBridge & { t: 'hello' }, now: number): void {
    const attachment: Attachment = {
      instance: instance ?? crypto.randomUUID(),
      asksForLease: instance !== undefined,
      isActive: false,
      credit,
      since: now,
    }
    for (const other of this.ctx.getWebSockets()) {
      // The newest socket of a bridge is the one that works: an older one is a connection that died unseen.
      const isSame = instance === undefined || attachmentOf(other)?.instance === instance
      if (other === socket || !isSame) continue
      other.serializeAttachment(null)
      other.close(1012, 'replaced')
    }
    socket.serializeAttachment(attachment)
    askForLease(this.ctx, socket, now)
    markPresent(this.ctx.storage, now)
  }

  /**
   * Ends sockets whose key is not in force any more. Their bridges leave the broker to a standby, if there is one; else
   * they go on keeping what devices say.
   */
  #end(sockets: WebSocket[]): void {
    const hasHeir = standbysOf(this.ctx).some((standby) => !sockets.includes(standby))
    for (const socket of sockets) {
      if (hasHeir) sendRole(this.ctx, socket, false)
      this.#left(socket, true)
      socket.close(1008, 'the key was revoked')
    }
  }

  /** `isOver`: the bridge said that it will not come back. */
  #left(socket: WebSocket, isOver: boolean): void {
    const now = Date.now()
    markLeft(this.ctx, socket, now)
    leaveLease(this.ctx, socket, isOver, now)
    socket.serializeAttachment(null)
  }

  override async webSocketClose(socket: WebSocket, code: number): Promise<void> {
    this.#left(socket, false)
    await this.#arm()
    // 1005 and 1006 say that no code came; they may not be sent.
    socket.close(code === 1005 || code === 1006 ? 1000 : code, 'closed')
  }

  override async webSocketError(socket: WebSocket): Promise<void> {
    this.#left(socket, false)
    await this.#arm()
    socket.close(1011, 'socket error')
  }

  #credit(): number {
    return activeSockets(this.ctx).reduce((sum, socket) => sum + (attachmentOf(socket)?.credit ?? 0), 0)
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
    await Promise.allSettled(waiters.map((address) => waiterAt(this.env, address).wake()))
  }
}
