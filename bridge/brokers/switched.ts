import type { Broker } from './broker.ts'

/** The broker of a bridge: opened while the bridge is active. While it stands by, every publish is returned. */
export interface SwitchedBroker extends Broker {
  /** Starts the embedded broker or joins another; does nothing if it is open. Rejects if that fails. */
  open(): Promise<void>
}

export function createSwitchedBroker(openBroker: () => Promise<Broker>): SwitchedBroker {
  let current: Broker | undefined
  let counts: Record<string, number> = {}
  /** Opening and closing happen one after the other. */
  let line: Promise<void> = Promise.resolve()

  const inLine = (work: () => Promise<void>): Promise<void> => {
    const done = line.then(work)
    line = done.catch(() => {})
    return done
  }

  return {
    get mqttPort() {
      return current?.mqttPort
    },
    get counts() {
      return current ? current.counts : counts
    },
    open: () =>
      inLine(async () => {
        current ??= await openBroker()
      }),
    close: () =>
      inLine(async () => {
        const last = current
        current = undefined
        counts = { ...last?.counts }
        await last?.close()
      }),
    health: () => current?.health() ?? { state: 'away', reason: 'not opened' },
    ready: async (withinMs) => (await current?.ready(withinMs)) ?? false,
    hasSubscriber: async (topic) => current?.hasSubscriber(topic),
    publish: async (topic, payload, options) =>
      (await current?.publish(topic, payload, options)) ?? 'returned',
    dropSessions: (username) => current?.dropSessions(username),
    receivedUpTo: () => current?.receivedUpTo(),
    stopAccepting: () => current?.stopAccepting(),
  }
}
