export interface PublishOptions {
  qos: 1
  /** The broker drops the message after this time (MQTT 5 only). */
  expiresInSeconds?: number
}

/** `taken`: PUBACK. `offline`: no session subscribes, says the broker. `returned`: it did not reach the broker. */
export type PublishResult = 'taken' | 'offline' | 'returned'

/** `away`: no message comes through it now. The reason names no address and no user. */
export interface BrokerHealth {
  state: 'ok' | 'away'
  reason?: string | undefined
}

/** A broker as the bridge uses it: the embedded one, or another that it joins. */
export interface Broker {
  /** The port that devices connect to; undefined for a joined broker. */
  mqttPort: number | undefined
  health(): BrokerHealth
  /** Whether a publish can reach the broker within this time (ms). */
  ready(withinMs: number): Promise<boolean>
  /** Whether a live or stored session subscribes to the topic; undefined if the broker cannot tell before a publish. */
  hasSubscriber(topic: string): Promise<boolean | undefined>
  /** Publishes once: a message that was returned never goes out later. Never rejects. */
  publish(topic: string, payload: string, options: PublishOptions): Promise<PublishResult>
  /** Ends every session of a username, if the broker allows it. */
  dropSessions(username: string): void
  /** Monotonic time (ms) up to which the broker has handed over everything; undefined: not known. */
  receivedUpTo(): number | undefined
  /** Accepts no more connections; open ones stay. */
  stopAccepting(): void
  close(): Promise<void>
  counts: Record<string, number>
}

/** What a broker calls for what it hears. */
export interface BrokerEvents {
  /** A device published. Resolves when the message is durable; rejects if it must not be acknowledged. */
  message(username: string, topic: string, payload: Uint8Array, isGone: () => boolean): Promise<void>
  /** True while no more messages can be taken in. */
  isFull(): boolean
  /** True if the spool has this device's whole share, which is noted: a broker that cannot let it wait drops its message. */
  isOverShare(username: string): boolean
  /** Resolves when messages can be taken in; rejects if `isGone()` becomes true before. */
  waitForRoom(isGone: () => boolean): Promise<void>
  connected(username: string): void
  disconnected(username: string): void
  subscribed(username: string, topic: string): void
}
