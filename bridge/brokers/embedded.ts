import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { Aedes, type AuthenticateError, type Client } from 'aedes'
import { MAX_PAYLOAD_BYTES, TOPIC_NAME, uplinkTopic } from '../../src/protocol/device.ts'
import { type Log, limited } from '../log.ts'
import { createPresence } from '../presence.ts'
import type { Shares } from '../shares.ts'
import type { Access } from './access.ts'
import type { Broker, BrokerEvents } from './broker.ts'
import { createDoor } from './door.ts'
import { createListeners } from './listeners.ts'
import { limitPackets } from './packet-limit.ts'
import { guardSessions } from './sessions.ts'

/** The state of one connection. */
interface Connection {
  username: string
  /** As the device gave it; inside the broker the username is put in front. */
  clientId: string
  /** The epoch (see `Access`) in which its credentials were checked. */
  epoch: number
  granted: Set<string>
  /** The number of filters that are not decided yet. */
  asking: number
}

const SERVER_UNAVAILABLE = 3
const BAD_USERNAME_OR_PASSWORD = 4
const REFUSED = 128
/** The largest payload, with room for its topic and headers. */
const MAX_PACKET_BYTES = MAX_PAYLOAD_BYTES + 1024
const MAX_CLIENT_ID_LENGTH = 256
/** Undecided filters per connection: more than any device needs, and few enough to ask the Worker about. */
const MAX_FILTERS_ASKED = 32
const CONNECT_TIMEOUT_MS = 10_000
const DRAIN_TIMEOUT_MS = 5_000
const TCP_KEEPALIVE_MS = 60_000
/**
 * For the other brokers of a cluster, and there is none. aedes publishes the wills of a broker whose heartbeat is old by
 * the wall clock, so each step of the clock forward would publish those of the devices that are connected here. Four
 * times this is the longest time that a timer can have.
 */
const HEARTBEAT_MS = 2 ** 29 - 1
/** Connections that wait to be accepted, so that a storm of reconnects need not try again. The kernel may allow fewer. */
const BACKLOG = 4_096
/** Half-open QoS 2 publishes kept per connection. */
const MAX_QOS2_INFLIGHT = 20

const connackError = (returnCode: number): AuthenticateError =>
  Object.assign(new Error('refused'), { returnCode })

/** The connection's filters, which aedes has but does not declare in its types. */
const filtersOf = (client: Client) =>
  Object.keys((client as unknown as { subscriptions: Record<string, unknown> }).subscriptions)

/** Starts a broker for devices only: MQTT 3.1 and 3.1.1 over TCP (src/protocol/README.md#identity, #topics). */
export async function startEmbeddedBroker(options: {
  host: string
  port: number
  maxConnections: number
  /** Open connections of one username; beyond them its oldest is closed. */
  connectionsPerDevice: number
  access: Access
  shares: Shares
  events: BrokerEvents
  log: Log
}): Promise<Broker> {
  const { access, shares, events, log } = options
  const counts = {
    connected: 0,
    denied: 0,
    unavailable: 0,
    refusedPublishes: 0,
    refusedFilters: 0,
    tooLarge: 0,
  }
  const logDenied = limited((times) =>
    log.info({ code: 'bridge.connection_denied', times }, 'connections were denied'),
  )
  const logPublish = limited((times) =>
    log.warn(
      { code: 'bridge.publish_refused', times },
      'publishes were refused and their connections closed',
    ),
  )
  const logFilter = limited((times) =>
    log.warn({ code: 'bridge.filter_refused', times }, 'subscriptions were refused'),
  )
  const logCrowd = limited((times) =>
    log.warn({ code: 'bridge.connections_full', times }, 'more connections than MAX_CONNECTIONS'),
  )

  const connections = new WeakMap<object, Connection>()
  const byUsername = new Map<string, Set<Client>>()
  const listeners = createListeners<Client>()
  const presence = createPresence(events)
  const door = createDoor(options.maxConnections)
  let closing = false

  const broker = await Aedes.createBroker({
    connectTimeout: CONNECT_TIMEOUT_MS,
    drainTimeout: DRAIN_TIMEOUT_MS,
    maxInflightInbound: MAX_QOS2_INFLIGHT,
    maxClientsIdLength: MAX_CLIENT_ID_LENGTH * 2,
    heartbeatInterval: HEARTBEAT_MS,

    preConnect(client, packet, done) {
      const username = packet.username ?? ''
      const { clientId } = packet
      if (closing || clientId.length > MAX_CLIENT_ID_LENGTH) return done(new Error('refused'), false)
      connections.set(client, { username, clientId, epoch: 0, granted: new Set(), asking: 0 })
      // The broker tells sessions apart by client id alone. Without the username in front, one device could end or take
      // over another's session.
      packet.clientId = `${TOPIC_NAME.test(username) ? username : '?'}/${clientId || randomUUID()}`
      if (clientId === '') packet.clean = true
      done(null, true)
    },

    authenticate(client, username, password, done) {
      const connection = connections.get(client)
      if (!connection) return done(connackError(SERVER_UNAVAILABLE), null)
      connection.epoch = access.epoch(connection.username)
      const peerhost = 'remoteAddress' in client.conn ? (client.conn.remoteAddress ?? '') : ''
      const request = {
        username: username ?? '',
        password: password?.toString() ?? '',
        clientid: connection.clientId,
        peerhost,
      }
      void access
        .connect(request, () => client.closed)
        .then((decision) => {
          if (decision === 'allow') {
            if (shares.mayConnect(connection.username)) return done(null, true)
            return done(connackError(SERVER_UNAVAILABLE), null)
          }
          counts[decision === 'deny' ? 'denied' : 'unavailable']++
          logDenied()
          done(connackError(decision === 'deny' ? BAD_USERNAME_OR_PASSWORD : SERVER_UNAVAILABLE), null)
        })
    },

    authorizePublish(client, packet, done) {
      const connection = client && connections.get(client)
      const { topic, payload } = packet
      if (!connection || closing) return done(new Error('refused'))
      const uplink = uplinkTopic(topic)
      if (!uplink || payload.length > MAX_PAYLOAD_BYTES) {
        // MQTT 3.1.1 has no negative acknowledgement, so this error closes the connection.
        counts.refusedPublishes++
        logPublish()
        return done(new Error('refused'))
      }
      packet.retain = false
      const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
      const isGone = () => client.closed
      const take = () => events.message(connection.username, topic, bytes, isGone)
      const turn = shares.turn(connection.username, uplink.kind, isGone)
      // Without a wait it is in line before this returns, so a client's messages keep their order.
      void (turn?.then(take) ?? take()).then(
        () => done(null),
        (error: Error) => done(error),
      )
    },

    authorizeSubscribe(client, subscription, done) {
      const connection = connections.get(client)
      const { topic } = subscription
      const refuse = () => {
        counts.refusedFilters++
        logFilter()
        done(null, null)
      }
      if (!connection || connection.asking >= MAX_FILTERS_ASKED) return refuse()
      connection.asking++
      const isGone = () => client.closed
      const request = { username: connection.username, clientid: connection.clientId, topic }
      void Promise.resolve(shares.turn(connection.username, 'subscription', isGone))
        .then(() => events.waitForRoom(isGone))
        .then(() => access.subscribe(request, isGone))
        .catch(() => 'unavailable' as const)
        .then((decision) => {
          connection.asking--
          if (decision === 'deny') return refuse()
          // The connection is closed instead of refusing the filter: a device might take a refusal as final, but after
          // this it connects and subscribes again.
          if (decision === 'unavailable') return done(new Error('the Worker cannot be asked'))
          connection.granted.add(topic)
          done(null, subscription)
        })
    },

    authorizeForward: (client, packet) =>
      connections.get(client)?.granted.has(packet.topic) ? packet : null,
  })
  const sessions = guardSessions(
    broker,
    (client, topic) => connections.get(client)?.granted.has(topic) ?? false,
  )
  broker.on('error' as 'closed', () =>
    log.error({ code: 'bridge.broker_failed' }, 'the embedded broker failed'),
  )

  function listen(client: Client, topic: string): void {
    const connection = connections.get(client)
    if (!connection || client.closed) return
    listeners.add(topic, client)
    events.subscribed(connection.username, topic)
  }

  broker.on('client', (client) => {
    const connection = connections.get(client)
    if (!connection || client.closed || client.conn.destroyed) return
    const { username } = connection
    if (connection.epoch !== access.epoch(username)) return client.close()
    counts.connected++
    door.settled(client.conn)
    const clients = byUsername.get(username) ?? new Set<Client>()
    byUsername.set(username, clients.add(client))
    if (clients.size > options.connectionsPerDevice) {
      shares.note(username, 'connections')
      // The newest one works; older ones may be connections that died unseen.
      const [oldest] = clients
      oldest?.close()
    }
    presence.opened(username)
    if (!client.clean) {
      const isLive = (id: string) => [...clients].some((other) => other.id === id)
      sessions.opened(username, client.id, isLive)
    }
    // The socket's event, since aedes emits no `clientDisconnect` for some take-overs.
    client.conn.once('close', () => {
      if (closing) return // one `reset` says this for all connections
      for (const topic of connection.granted) listeners.remove(topic, client)
      clients.delete(client)
      if (clients.size === 0 && byUsername.get(username) === clients) byUsername.delete(username)
      presence.closed(username)
    })
  })
  // aedes restores the filters of a resumed session without a 'subscribe' event.
  broker.on('clientReady', (client) => {
    for (const topic of filtersOf(client)) if (listeners.add(topic, client)) listen(client, topic)
  })
  broker.on('subscribe', (subscriptions, client) => {
    for (const { topic, qos } of subscriptions) if ((qos as number) !== REFUSED) listen(client, topic)
  })
  broker.on('unsubscribe', (topics, client) => {
    for (const topic of topics) listeners.remove(topic, client)
  })

  const server = createServer((socket) => {
    if (!door.admit(socket)) return logCrowd()
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS)
    limitPackets(socket, MAX_PACKET_BYTES, () => {
      counts.tooLarge++
      logPublish()
    })
    broker.handle(socket)
  })
  server.listen({ port: options.port, host: options.host, backlog: BACKLOG })
  await once(server, 'listening')

  return {
    counts,
    mqttPort: (server.address() as AddressInfo).port,
    health: () => ({ state: closing ? 'away' : 'ok' }),
    ready: async () => !closing,
    hasSubscriber: async (topic) => listeners.has(topic) || sessions.hasSubscriber(topic),
    publish: (topic, payload) =>
      new Promise((resolve) => {
        broker.publish(
          { cmd: 'publish', topic, payload: Buffer.from(payload), qos: 1, retain: false, dup: false },
          (error) => resolve(error ? 'returned' : 'taken'),
        )
      }),
    dropSessions(username) {
      access.forget(username)
      sessions.drop(username)
      for (const client of byUsername.get(username) ?? []) client.close()
    },
    receivedUpTo: () => performance.now(),
    stopAccepting: () => {
      server.close()
    },
    async close() {
      // Set first, so that wills are no longer taken in: the broker ends its connections, not the devices.
      closing = true
      server.close()
      await new Promise<void>((resolve) => broker.close(() => resolve()))
      door.closeAll()
    },
  }
}
