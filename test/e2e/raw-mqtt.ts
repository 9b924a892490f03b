import { connect, type Socket } from 'node:net'

// MQTT 3.1.1 by hand, for clients that no library would make: thousands of them, and one that waits for no answer.

const text = (value: string | Buffer) => {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}

function packet(header: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts)
  const length: number[] = []
  for (let left = body.length; left > 0 || length.length === 0; left >>= 7) {
    length.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0))
  }
  return Buffer.concat([Buffer.from([header, ...length]), body])
}

/** A CONNECT with a clean session and a keepalive of 10 minutes. */
export const connectPacket = (clientId: string, username: string, password = '') =>
  packet(
    0x10,
    text('MQTT'),
    Buffer.from([4, 0xc2, 600 >> 8, 600 & 0xff]),
    text(clientId),
    text(username),
    text(password),
  )

export const subscribePacket = (id: number, filter: string) =>
  packet(0x82, Buffer.from([id >> 8, id & 0xff]), text(filter), Buffer.from([1]))

/** QoS 1. */
export const publishPacket = (id: number, topic: string, payload: string) =>
  packet(0x32, text(topic), Buffer.from([id >> 8, id & 0xff]), Buffer.from(payload))

export const CONNACK = 0x20
export const SUBACK = 0x90
export const PUBACK = 0x40

/** One connection that shows what the broker answers. */
export interface RawClient {
  socket: Socket
  /** Resolves with the code of the CONNACK; undefined if the connection ended without one. */
  connack: Promise<number | undefined>
  /** Resolves to true when a packet of this kind comes; to false if the connection ends before. */
  next(kind: number): Promise<boolean>
  /** How many packets of this kind came. */
  count(kind: number): number
  isClosed(): boolean
}

/** Connects from `localAddress`, so that more connections are possible than one address has ports. */
export function rawClient(
  port: number,
  login: { clientId: string; username: string; password?: string },
  localAddress = '127.0.0.1',
): RawClient {
  const counts = new Map<number, number>()
  const connack = Promise.withResolvers<number | undefined>()
  const waiting: { kind: number; resolve: (came: boolean) => void }[] = []
  const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true })
  let rest = Buffer.alloc(0)
  let closed = false
  socket.on('error', () => {}) // 'close' follows
  socket.on('close', () => {
    closed = true
    connack.resolve(undefined)
    for (const { resolve } of waiting.splice(0)) resolve(false)
  })
  socket.on('data', (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    // All answers that these clients get are shorter than 128 bytes, or notices that they do not read.
    while (rest.length >= 2 && rest.length >= 2 + rest[1]!) {
      const kind = rest[0]! & 0xf0
      counts.set(kind, (counts.get(kind) ?? 0) + 1)
      if (kind === CONNACK) connack.resolve(rest[3])
      const at = waiting.findIndex((each) => each.kind === kind)
      if (at >= 0) waiting.splice(at, 1)[0]?.resolve(true)
      rest = rest.subarray(2 + rest[1]!)
    }
  })
  socket.write(connectPacket(login.clientId, login.username, login.password))
  return {
    socket,
    connack: connack.promise,
    next: (kind) =>
      closed ? Promise.resolve(false) : new Promise((resolve) => waiting.push({ kind, resolve })),
    count: (kind) => counts.get(kind) ?? 0,
    isClosed: () => closed,
  }
}
