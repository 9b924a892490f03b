import { z } from 'zod'
import { TOPIC_NAME } from './device.ts'

/**
 * The messages between a bridge and the Worker: batches up over HTTPS, frames down and credit up over the WebSocket.
 * Shared by both ends and validated on both. Every frame carries its version.
 */
export const FRAME_VERSION = 1

export const MAX_BATCH_ITEMS = 1000
export const MAX_BATCH_BYTES = 4 * 1024 * 1024
/** More items of one device in a batch are to be sent again later, so that one device does not hold up the others. */
export const MAX_BATCH_ITEMS_OF_DEVICE = 250
/** The code of an item that is to be sent again since its device is over its share. It does not hold back `upTo`. */
export const OVER_SHARE = 'over_share'
/** No bridge holds more unacknowledged notices than this. */
export const MAX_CREDIT = 1000
/** A notice that is not published within this time goes back to its task. */
export const PUBLISH_WITHIN_MS = 5_000
/** If the active bridge gives no sign for this long, a standby of the same name takes over. */
export const LEASE_MS = 15_000
/** An idle bridge still sends `upTo` this often. */
export const UP_TO_INTERVAL_MS = 10_000
/** Answered by the runtime without waking the hub. */
export const PING = '{"t":"ping"}'
export const PONG = '{"t":"pong"}'

/** A lease grows by one with each change of the active bridge. A larger number would outrank all later leases. */
export const leaseNumber = z.int().nonnegative().max(1_000_000_000)

/** The Worker's clock in ms since 1970. Whatever lies outside these years is no clock. */
const workerNow = z.int().min(Date.UTC(2020)).max(Date.UTC(2200))

/** A time as ISO 8601 or as milliseconds since 1970 → milliseconds. */
const time = z.union([
  z.number().int().nonnegative(),
  z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
])

/** Tells the task that sent a notice which notice it is, and for which device. Opaque to bridge and hub. */
export const noticeRef = z.object({
  task: z.string().min(1).max(64),
  device: z.string().min(1).max(64),
  /** The notice's id, as in the message to the device. */
  id: z.string().regex(/^\d{10}$/),
})
export type NoticeRef = z.infer<typeof noticeRef>

// ---- Up: the batch --------------------------------------------------------------------------------------

const base = {
  id: z.string().min(1).max(64),
  at: time.optional(),
  /** The lease under which the bridge received it, and its place in the bridge's order: they tell old from new. */
  lease: z.number().int().nonnegative().optional(),
  seq: z.number().int().nonnegative().optional(),
}

export const batchItem = z.discriminatedUnion('kind', [
  /** What a device published. `username` comes from the broker, never from the message. */
  z.object({
    ...base,
    kind: z.literal('message'),
    username: z.string().regex(TOPIC_NAME),
    topic: z.string().min(1).max(256),
    payload: z.base64(),
  }),
  /** Spooled before the notice is published. */
  /** A device took more than its share of the bridge and was held back, so many times; at most once a minute. */
  z.object({
    ...base,
    kind: z.literal('limited'),
    username: z.string().regex(TOPIC_NAME),
    share: z.enum(['messages', 'requests', 'connections', 'spool']),
    times: z.number().int().positive(),
  }),
  z.object({ ...base, kind: z.literal('sent'), notice: noticeRef }),
  /**
   * `taken`: the broker acknowledged it (PUBACK), and a session subscribes. `offline`: no live or stored session
   * subscribes. `returned`: it was not published in time.
   */
  z.object({
    ...base,
    kind: z.literal('taken'),
    notice: noticeRef,
    result: z.enum(['taken', 'offline', 'returned']).default('taken'),
  }),
  /**
   * `connected`: the first connection of a username; `disconnected`: its last one ended; `subscribed`: with the
   * filter in `topic`; `reset`: every session of this broker ended, because it was restarted.
   */
  z.discriminatedUnion('event', [
    z.object({
      ...base,
      kind: z.literal('presence'),
      event: z.enum(['connected', 'disconnected', 'subscribed']),
      username: z.string().regex(TOPIC_NAME),
      topic: z.string().max(256).optional(),
    }),
    z.object({ ...base, kind: z.literal('presence'), event: z.literal('reset') }),
  ]),
])
export type BatchItem = z.infer<typeof batchItem>
export type BatchItemInput = z.input<typeof batchItem>

/** The envelope only: each item is validated by itself, so that one bad item never spoils its batch. */
export const batchEnvelope = z.object({
  bridge: z.string().min(1).max(64),
  /** Worker time: everything this bridge was given before then has been handed over with this batch. */
  upTo: time.optional(),
  /** The highest lease number that the bridge knows; items of a smaller one say nothing about the present. */
  lease: z.number().int().nonnegative().optional(),
  items: z.array(z.unknown()).max(MAX_BATCH_ITEMS),
})

export interface ItemResult {
  id: string
  /** `retry`: it was not processed; the bridge sends it again, and with it all later items of its device. */
  status: 'taken' | 'rejected' | 'retry'
  /** Of a rejected item: its reason as a code, and in English. Of one to send again perhaps OVER_SHARE. */
  code?: string
  reason?: string
}

export const batchAnswer = z.object({
  results: z
    .array(
      z.object({
        id: z.string(),
        status: z.enum(['taken', 'rejected', 'retry']),
        code: z.string().optional(),
        reason: z.string().optional(),
      }),
    )
    .max(MAX_BATCH_ITEMS),
  /** The Worker's clock in ms, from which the bridge reckons the `upTo` of its next batch. */
  now: workerNow,
  /** The current lease's number, whichever bridge holds it; 0 if none was given. */
  lease: leaseNumber.optional(),
})
export type BatchAnswer = z.infer<typeof batchAnswer>

// ---- The socket -----------------------------------------------------------------------------------------

export const frameFromBridge = z.discriminatedUnion('t', [
  z.object({
    v: z.literal(FRAME_VERSION),
    t: z.literal('hello'),
    bridge: z.string().min(1).max(64),
    /** Asks for the lease under this name (src/hub/lease.ts). A bridge that gives none gets the lease at once. */
    instance: z.string().min(1).max(64).optional(),
    /** How many notices the bridge will hold unacknowledged. */
    credit: z.number().int().min(0).max(MAX_CREDIT),
  }),
  /** This many notices were settled, so as many more may come. */
  z.object({
    v: z.literal(FRAME_VERSION),
    t: z.literal('credit'),
    add: z.number().int().min(1).max(MAX_CREDIT),
  }),
  /** The bridge ends on purpose: another one may take over at once. */
  z.object({ v: z.literal(FRAME_VERSION), t: z.literal('bye') }),
])
export type FrameFromBridge = z.infer<typeof frameFromBridge>

/** MQTT has no larger number. */
const MAX_EXPIRY_SECONDS = 2 ** 32 - 1
/** Far more than a notice has, and less than what a bridge should have to hold. */
const MAX_DOWNLINK_CHARACTERS = 1024 * 1024
const downlinkTopic = z.string().min(1).max(256)
const downlinkPayload = z.string().max(MAX_DOWNLINK_CHARACTERS)

export const noticeFrame = z.object({
  notice: noticeRef,
  /** The device's username: the notice counts as taken only if a session of it subscribes. */
  username: z.string().regex(TOPIC_NAME),
  topic: downlinkTopic,
  /** The JSON text for the device. */
  payload: downlinkPayload,
  /** Seconds until the notice's link expires (MQTT 5 `messageExpiryInterval`); not above 0 if it just did. */
  expiresInSeconds: z.int().min(-MAX_EXPIRY_SECONDS).max(MAX_EXPIRY_SECONDS),
})
export type NoticeFrame = z.infer<typeof noticeFrame>

export const frameToBridge = z.discriminatedUnion('t', [
  z.object({ v: z.literal(FRAME_VERSION), t: z.literal('welcome'), now: workerNow }),
  z.object({
    v: z.literal(FRAME_VERSION),
    t: z.literal('notices'),
    items: z.array(noticeFrame).max(MAX_CREDIT),
  }),
  /** Whether this bridge is the active one of its name; a standby joins no broker and gets no notices. */
  z.object({
    v: z.literal(FRAME_VERSION),
    t: z.literal('lease'),
    number: leaseNumber.positive(),
    active: z.boolean(),
  }),
  /** The answer "nothing is due": published once, neither acknowledged nor repeated. */
  z.object({
    v: z.literal(FRAME_VERSION),
    t: z.literal('reply'),
    topic: downlinkTopic,
    payload: downlinkPayload,
  }),
  /** Ends every session of this username: its token was rotated, or its device was disabled or deleted. */
  z.object({ v: z.literal(FRAME_VERSION), t: z.literal('drop'), username: z.string().regex(TOPIC_NAME) }),
])
export type FrameToBridge = z.infer<typeof frameToBridge>

/** The frame in this text; undefined if it is no valid frame of this version. */
export function readFrame<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(text))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}
