import { randomUUID } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { connect } from 'mqtt'
import type { MqttLogin } from '../config.ts'
import type { Identity } from '../identity.ts'
import { type Log, limited } from '../log.ts'
import type { Broker, BrokerEvents, PublishResult } from './broker.ts'
import { createPresenceReader, PRESENCE_FILTER } from './presence-topics.ts'

const MARKER_EVERY_MS = 2_000
const MARKER_LOST_MS = 30_000
const KEEPALIVE_SECONDS = 15
const RECONNECT_MS = 2_000
const SESSION_EXPIRY_SECONDS = 7 * 24 * 3600
const NO_SUBSCRIBER = 0x10
const SESSION_TAKEN_OVER = 0x8e
/** CONNACK of a broker without MQTT 5, in its own words and in those of MQTT 5. */
const UNKNOWN_PROTOCOL = [0x01, 0x84]
const CLOSE_WITHIN_MS = 2_000

interface Received {
  topic: string
  payload: Buffer
  properties?: { userProperties?: Record<string, string | string[]> | undefined } | undefined
}

/**
 * Joins a broker that is not ours as one client with a session of its own: over MQTT 5, or over 3.1.1 where the broker
 * has no more.
 */
export function joinBroker(options: {
  url: string
  bridge: string
  identity: Identity
  login?: MqttLogin | undefined
  sharedGroup?: string | undefined
  /** Rules of the broker may say who comes and goes (presence-topics.ts). */
  presenceByRules: boolean
  events: BrokerEvents
  /** Another client took this one's session over. */
  onFenced: () => void
  log: Log
}): Broker {
  const { identity, events, log } = options
  const counts = { connects: 0, unidentified: 0, stoodAside: 0 }
  const logUnidentified = limited((count) => log.warn(count, 'messages without a publisher were left out'))
  const logAway = limited((count) => log.warn({ ...count, reason }, 'no connection to the broker'))
  const logFull = limited((count) => log.warn(count, 'the spool is full: the broker is left to queue'))
  const logMessage = limited((count) => log.warn(count, 'messages could not be spooled'))
  const shared = options.sharedGroup === undefined ? '' : `$share/${options.sharedGroup}/`
  let readPresence = createPresenceReader(events)
  const markerTopic = `ota/bridge/${options.bridge}/marker`

  const client = connect(options.url, {
    protocolVersion: 5,
    clientId: `edge-ota-bridge-${options.bridge}`,
    clean: false,
    properties: { sessionExpiryInterval: SESSION_EXPIRY_SECONDS },
    keepalive: KEEPALIVE_SECONDS,
    reconnectPeriod: RECONNECT_MS,
    queueQoSZero: false,
    resubscribe: false,
    // Also after a broker that could not ask who this is, or has its accounts reloaded.
    reconnectOnConnackError: true,
    ...options.login,
  })
  let connection = 0
  let isAside = false
  let isClosed = false
  /** Why there is no connection, or none that is of use: a code, since the text may hold the address. */
  let reason: string | undefined
  let receivedUpTo: number | undefined
  let marker: { nonce: string; at: number } | undefined
  /** Message ids of which the PUBACK said so: the publish callback hides it. */
  const unheard = new Set<number>()

  /**
   * A message that comes back through the broker's own queue: whatever the broker had before it was published
   * has been handed over when it arrives.
   */
  function sendMarker(): void {
    if (!client.connected || (marker && performance.now() - marker.at < MARKER_LOST_MS)) return
    marker = { nonce: randomUUID(), at: performance.now() }
    // QoS 1 as the messages are: at QoS 0 it would overtake the broker's queue.
    client.publish(markerTopic, marker.nonce, { qos: 1 }, () => {})
  }
  const markers = setInterval(sendMarker, MARKER_EVERY_MS)

  /** Nothing that was in flight may go out by itself after a reconnect, long after a cancel or freeze. */
  function forgetOutgoing(): void {
    for (const id of Object.keys(client.outgoing)) client.removeOutgoingMessage(Number(id))
  }

  client.on('connect', ({ sessionPresent }) => {
    connection++
    // A broker that lost the session lost what happened meanwhile: who is counted as connected may not be.
    if (!sessionPresent) readPresence = createPresenceReader(events)
    counts.connects++
    reason = undefined
    log.info('connected to the broker')
    marker = undefined
    for (const filter of identity.filters) client.subscribe(shared + filter, { qos: 1 }, onSubscribed)
    // A broker without such rules may refuse it.
    if (options.presenceByRules) client.subscribe(PRESENCE_FILTER, { qos: 1 }, () => {})
    client.subscribe(markerTopic, { qos: 1 }, (error) => {
      onSubscribed(error)
      sendMarker()
    })
  })
  function onSubscribed(error: Error | null): void {
    // Cut off: the next connection subscribes again.
    if (!error || !client.connected) return
    reason = 'subscription refused'
    log.error('the broker refused a subscription of the bridge')
  }
  client.on('close', () => {
    connection++
    receivedUpTo = undefined
    unheard.clear()
    logAway()
    forgetOutgoing()
  })
  client.on('disconnect', ({ reasonCode }) => {
    if (reasonCode !== SESSION_TAKEN_OVER) return
    // To connect again would take it back.
    client.end(true)
    options.onFenced()
  })
  // 'close' follows.
  client.on('error', (error) => {
    const { code = 'error' } = error as { code?: string | number }
    reason = typeof code === 'number' ? `CONNACK ${code}` : code
    // A broker without MQTT 5 does not know what `$share` means.
    if (!UNKNOWN_PROTOCOL.includes(Number(code)) || options.sharedGroup !== undefined) return
    client.options.protocolVersion = 4
    delete client.options.properties
  })
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'puback' && packet.reasonCode === NO_SUBSCRIBER) unheard.add(packet.messageId!)
  })

  async function take({ topic, payload, properties }: Received, gone: () => boolean): Promise<void> {
    if (topic === markerTopic) {
      if (payload.toString() !== marker?.nonce) return
      receivedUpTo = marker.at
      marker = undefined
      return
    }
    // Written in this turn of the event loop.
    if (options.presenceByRules && readPresence(topic, payload)) return nextTurn()
    const { userProperties } = properties ?? {}
    const isTooLarge = payload.length > identity.maxBytes
    const message = isTooLarge ? undefined : identity.read({ topic, payload, userProperties })
    if (message) return events.message(message.username, message.topic, message.payload, gone)
    counts.unidentified++
    logUnidentified()
  }

  /**
   * Reads nothing more until there is room: the broker queues for the session. Only not to acknowledge would hold up
   * the answers to pings too, and the connection would end again and again.
   */
  function standAside(): void {
    if (isAside) return
    isAside = true
    counts.stoodAside++
    logFull()
    client.end(true)
    void events
      .room(() => isClosed)
      .then(
        () => {
          isAside = false
          if (!isClosed) client.reconnect()
        },
        () => {},
      )
  }

  client.handleMessage = (packet, done) => {
    if (events.isFull()) return standAside()
    const arrivedOn = connection
    const gone = () => connection !== arrivedOn
    const payload = Buffer.isBuffer(packet.payload) ? packet.payload : Buffer.from(packet.payload)
    take({ ...packet, payload }, gone).then(
      () => {
        // After a reconnect this would acknowledge another message on the new connection.
        if (!gone()) done()
      },
      () => {
        logMessage()
        // Not acknowledged: over a fresh connection the broker hands it over again.
        if (!gone()) client.stream.destroy()
      },
    )
  }

  return {
    counts,
    mqttPort: undefined,
    health: () =>
      client.connected && reason === undefined
        ? { state: 'ok' }
        : { state: 'away', reason: isAside ? 'the spool is full' : reason },
    ready: (withinMs) =>
      client.connected
        ? Promise.resolve(true)
        : new Promise((resolve) => {
            const end = (result: boolean) => {
              clearTimeout(timer)
              client.removeListener('connect', onConnect)
              resolve(result)
            }
            const onConnect = () => end(true)
            const timer = setTimeout(() => end(false), Math.max(0, withinMs))
            client.on('connect', onConnect)
          }),
    hasSubscriber: async () => undefined,
    publish: (topic, payload, { expiresInSeconds }) =>
      new Promise<PublishResult>((resolve) => {
        if (!client.connected) return resolve('returned')
        const properties =
          expiresInSeconds === undefined ? {} : { messageExpiryInterval: Math.max(1, expiresInSeconds) }
        let id: number | undefined
        client.publish(topic, payload, { qos: 1, properties }, (error) => {
          const offline = id !== undefined && unheard.delete(id)
          resolve(error ? 'returned' : offline ? 'offline' : 'taken')
        })
        id = client.getLastMessageId()
      }),
    dropSessions() {
      // A joined broker offers no common way to end another client's session.
    },
    receivedUpTo: () => receivedUpTo,
    stopAccepting() {},
    async close() {
      isClosed = true
      clearInterval(markers)
      const timer = setTimeout(() => client.end(true), CLOSE_WITHIN_MS)
      await client.endAsync()
      clearTimeout(timer)
    },
  }
}
