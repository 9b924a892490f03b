export interface PublishOptions {
  qos: 1
  /** The message is worthless after this time (MQTT 5 only). */
  expiresInSeconds?: number
}

/** `taken`: PUBACK. `offline`: the broker says that nobody subscribes. `returned`: it did not reach the broker. */
export type PublishResult = 'taken' | 'offline' | 'returned'

/** `away`: nobody is heard through it now, for a reason that names no address and no user. */
export interface BrokerHealth {
  state: 'ok' | 'away'
  reason?: string | undefined
}

/** A broker as the bridge sees it: the embedded one, or another that it joins. */
export interface Broker {
  /** The port that devices connect to; undefined where the broker is not ours. */
  mqttPort: number | undefined
  health(): BrokerHealth
  /** Whether a publish can reach the broker within this time (ms). */
  ready(withinMs: number): Promise<boolean>
  /** Whether a live or stored session subscribes to the topic; undefined where the broker cannot tell beforehand. */
  hasSubscriber(topic: string): Promise<boolean | undefined>
  /** Never repeats a message by itself later. Never rejects. */
  publish(topic: string, payload: string, options: PublishOptions): Promise<PublishResult>
  /** Ends every session of a username, where the broker allows it. */
  dropSessions(username: string): void
  /** Monotonic time (ms) up to which everything that the broker had is handed over; undefined: not known. */
  receivedUpTo(): number | undefined
  /** No new connections; what is connected goes on. */
  stopAccepting(): void
  close(): Promise<void>
  counts: Record<string, number>
}

/** What a broker does with what it hears. */
export interface BrokerEvents {
  /** A device published. Resolves when it is durable; rejects when it must not be acknowledged. */
  message(username: string, topic: string, payload: Uint8Array, gone: () => boolean): Promise<void>
  /** No more can be taken in for now. */
  isFull(): boolean
  /** Waits while no more can be taken in. */
  room(gone: () => boolean): Promise<void>
  connected(username: string): void
  disconnected(username: string): void
  subscribed(username: string, topic: string): void
}
