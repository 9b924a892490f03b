import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { Aedes } from 'aedes'
import type { DeviceIdentity } from './device.ts'

/** A message that a device published. */
export interface Heard {
  username: string
  topic: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look at single fields of any message
  message: any
}

/** Stands in for a whole installation: a broker without rules and an HTTP server for one file. */
export interface StandIn {
  mqttUrl: string
  heard: Heard[]
  /** Called with each message before its PUBACK. */
  onHeard: (heard: Heard) => void
  /** `METHOD range` of each download request. */
  requests: string[]
  /** Called for each request; if it returns true it has answered the request itself. */
  refuse: (response: ServerResponse) => boolean
  etag: string
  /** Publishes an upgrade notice to a device; resolves when the broker has it. */
  notify(device: DeviceIdentity, version: string, changes?: object): Promise<void>
  publish(topic: string, payload: string): Promise<void>
  /** The number of open MQTT connections. */
  connections(): number
  /** Breaks every MQTT connection. */
  breakConnections(): void
  close(): Promise<void>
}

const FIRST_NOTICE_ID = 1_764_000_001

export async function startStandIn(file: Uint8Array): Promise<StandIn> {
  const heard: Heard[] = []
  const requests: string[] = []
  const sockets = new Set<{ destroy(): void }>()
  const usernames = new WeakMap<object, string>()
  const broker = await Aedes.createBroker({
    authenticate(client, username, _password, done) {
      usernames.set(client, username ?? '')
      done(null, true)
    },
    authorizePublish(client, packet, done) {
      const username = client ? (usernames.get(client) ?? '') : ''
      const message = JSON.parse(packet.payload.toString())
      const latest = { username, topic: packet.topic, message }
      heard.push(latest)
      standIn.onHeard(latest)
      done(null)
    },
  })
  const mqtt = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    broker.handle(socket)
  })
  const http = createHttpServer((request, response) => {
    const range = request.headers.range
    requests.push(`${request.method} ${range ?? 'all'}`)
    if (standIn.refuse(response)) return
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? []
    const bytes = from === undefined ? file : file.subarray(Number(from), Number(to) + 1)
    response.writeHead(from === undefined ? 200 : 206, {
      etag: standIn.etag,
      'content-length': bytes.byteLength,
      ...(from !== undefined && { 'content-range': `bytes ${from}-${to}/${file.byteLength}` }),
    })
    response.end(bytes)
  })
  const [mqttPort, httpPort] = [await listen(mqtt), await listen(http)]
  const sign = createHash('sha256').update(file).digest('hex')
  let nextId = FIRST_NOTICE_ID

  const standIn: StandIn = {
    mqttUrl: `mqtt://127.0.0.1:${mqttPort}`,
    heard,
    requests,
    onHeard: () => {},
    refuse: () => false,
    etag: '"1"',
    notify({ accessToken }, version, changes = {}) {
      const url = `http://127.0.0.1:${httpPort}/file`
      const params = { version, size: file.byteLength, url, signMethod: 'SHA256', sign, ...changes }
      const id = String(nextId++)
      return standIn.publish(`ota/device/inform/${accessToken}`, JSON.stringify({ id, code: 200, params }))
    },
    publish: (topic, payload) =>
      new Promise((resolve, reject) => {
        broker.publish(
          { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 1, retain: false, dup: false },
          (error) => (error ? reject(error) : resolve()),
        )
      }),
    connections: () => sockets.size,
    breakConnections() {
      for (const socket of sockets) socket.destroy()
    },
    async close() {
      mqtt.close()
      http.close()
      http.closeAllConnections()
      await new Promise<void>((resolve) => broker.close(() => resolve()))
      standIn.breakConnections()
    },
  }
  return standIn
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}
