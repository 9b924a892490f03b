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
/** CONNACK codes of a broker without MQTT 5: that of MQTT 3.1.1, and that of MQTT 5. */
const UNKNOWN_PROTOCOL = [0x01, 0x84]
const CLOSE_WITHIN_MS = 2_000

interface Received {
  topic: string
  payload: Buffer
  properties?: { userProperties?: Record<string, string | string[]> | undefined } | undefined
}

/**
 * Joins another broker as a client with one stored session: over MQTT 5, or over 3.1.1 if the broker does not know
 * MQTT 5.
 */
export function joinBroker(options: {
  url: string
  bridge: string
  identity: Identity
  login?: MqttLogin | undefined
  sharedGroup?: string | undefined
  /** Presence may come from rules of the broker (presence-topics.ts). */
  presenceByRules: boolean
  events: BrokerEvents
  /** Another bridge of this name took over the session. */
  onTakenOver: () => void
  log: Log
}): Broker {
  const { identity, events, log } = options
  const counts = { connects: 0, unidentified: 0, paused: 0, droppedOverShare: 0 }
  const logUnidentified = limited((times) =>
    log.warn(
      { code: 'bridge.message_unidentified', times },
      'messages without a known publisher were dropped',
    ),
  )
  const logAway = limited((times) =>
    log.warn({ code: 'bridge.broker_lost', times, error: reason }, 'no connection to the broker'),
  )
  const logFull = limited((times) =>
    log.warn({ code: 'bridge.broker_paused', times }, 'the spool is full: the broker must queue'),
  )
  const logMessage = limited((times) =>
    log.warn({ code: 'bridge.message_not_spooled', times }, 'messages could not be spooled'),
  )
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
    // A refusal need not last: the broker may not have reached its user database, or may be reloading its accounts.
    reconnectOnConnackError: true,
    ...options.login,
  })
  let connection = 0
  let isPaused = false
  let isClosed = false
  /** Why no message comes through: a code, since an error's text may hold the address. */
  let reason: string | undefined
  let receivedUpTo: number | undefined
  let marker: { nonce: string; at: number } | undefined
  /** Message ids whose PUBACK said "no matching subscribers", which mqtt.js does not tell the publish callback. */
  const withoutSubscriber = new Set<number>()

  /**
   * Publishes a marker, which comes back through the broker's queue for this session. When it arrives, the broker has
   * handed over everything that it had when the marker was published.
   */
  function sendMarker(): void {
    if (!client.connected || (marker && performance.now() - marker.at < MARKER_LOST_MS)) return
    marker = { nonce: randomUUID(), at: performance.now() }
    // QoS 1 like the messages: at QoS 0 it would overtake the broker's queue.
    client.publish(markerTopic, marker.nonce, { qos: 1 }, () => {})
  }
  const markers = setInterval(sendMarker, MARKER_EVERY_MS)

  /** Notices in flight must not go out by themselves after a reconnect: a cancel or freeze may have come since. */
  function forgetOutgoing(): void {
    for (const id of Object.keys(client.outgoing)) client.removeOutgoingMessage(Number(id))
  }

  client.on('connect', ({ sessionPresent }) => {
    connection++
    // Without the session, presence events were lost: connections that are counted as open may have ended.
    if (!sessionPresent) readPresence = createPresenceReader(events)
    counts.connects++
    reason = undefined
    log.info({ code: 'bridge.broker_connected' }, 'connected to the broker')
    marker = undefined
    for (const filter of identity.filters) client.subscribe(shared + filter, { qos: 1 }, onSubscribed)
    // A broker without such rules may refuse this, so errors are ignored.
    if (options.presenceByRules) client.subscribe(PRESENCE_FILTER, { qos: 1 }, () => {})
    client.subscribe(markerTopic, { qos: 1 }, (error) => {
      onSubscribed(error)
      sendMarker()
    })
  })
  function onSubscribed(error: Error | null): void {
    // If the connection is gone, the next one subscribes again.
    if (!error || !client.connected) return
    reason = 'subscription refused'
    log.error({ code: 'bridge.subscription_refused' }, 'the broker refused a subscription of the bridge')
  }
  client.on('close', () => {
    connection++
    receivedUpTo = undefined
    withoutSubscriber.clear()
    logAway()
    forgetOutgoing()
  })
  client.on('disconnect', ({ reasonCode }) => {
    if (reasonCode !== SESSION_TAKEN_OVER) return
    // To reconnect would take the session back from the other bridge.
    client.end(true)
    options.onTakenOver()
  })
  // 'close' follows.
  client.on('error', (error) => {
    const { code = 'error' } = error as { code?: string | number }
    reason = typeof code === 'number' ? `CONNACK ${code}` : code
    // Falls back to 3.1.1, but not with a shared group: such a broker does not know `$share`.
    if (!UNKNOWN_PROTOCOL.includes(Number(code)) || options.sharedGroup !== undefined) return
    client.options.protocolVersion = 4
    delete client.options.properties
  })
  client.on('packetreceive', (packet) => {
    if (packet.cmd === 'puback' && packet.reasonCode === NO_SUBSCRIBER)
      withoutSubscriber.add(packet.messageId!)
  })

  async function take({ topic, payload, properties }: Received, isGone: () => boolean): Promise<void> {
    if (topic === markerTopic) {
      if (payload.toString() !== marker?.nonce) return
      receivedUpTo = marker.at
      marker = undefined
      return
    }
    // The events are written in this turn of the event loop.
    if (options.presenceByRules && readPresence(topic, payload)) return nextTurn()
    const { userProperties } = properties ?? {}
    const isTooLarge = payload.length > identity.maxBytes
    const message = isTooLarge ? undefined : identity.read({ topic, payload, userProperties })
    if (!message) {
      counts.unidentified++
      logUnidentified()
    } else if (events.isOverShare(message.username)) {
      // The broker has acknowledged it, and to let it wait would hold up all other devices.
      counts.droppedOverShare++
    } else await events.message(message.username, message.topic, message.payload, isGone)
  }

  /**
   * Disconnects until there is room in the spool; the broker queues for the session meanwhile. Merely withholding the
   * acknowledgement would stop mqtt.js from reading ping responses too, and the connection would break again and again.
   */
  function pauseUntilRoom(): void {
    if (isPaused) return
    isPaused = true
    counts.paused++
    logFull()
    client.end(true)
    void events
      .waitForRoom(() => isClosed)
      .then(
        () => {
          isPaused = false
          if (!isClosed) client.reconnect()
        },
        () => {},
      )
  }

  client.handleMessage = (packet, done) => {
    if (events.isFull()) return pauseUntilRoom()
    const arrivedOn = connection
    const isGone = () => connection !== arrivedOn
    const payload = Buffer.isBuffer(packet.payload) ? packet.payload : Buffer.from(packet.payload)
    take({ ...packet, payload }, isGone).then(
      () => {
        // After a reconnect `done` would acknowledge another message, on the new connection.
        if (!isGone()) done()
      },
      () => {
        logMessage()
        // Without an acknowledgement, the broker delivers the message again over a new connection.
        if (!isGone()) client.stream.destroy()
      },
    )
  }

  return {
    counts,
    mqttPort: undefined,
    health: () =>
      client.connected && reason === undefined
        ? { state: 'ok' }
        : { state: 'away', reason: isPaused ? 'the spool is full' : reason },
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
          const offline = id !== undefined && withoutSubscriber.delete(id)
          resolve(error ? 'returned' : offline ? 'offline' : 'taken')
        })
        id = client.getLastMessageId()
      }),
    dropSessions() {
      // MQTT has no way to end another client's session.
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
