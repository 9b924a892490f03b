import { PUBLISH_WITHIN_MS, UP_TO_INTERVAL_MS } from '../src/protocol/bridge.ts'
import { awaitDisk } from './await-disk.ts'
import { BACKOFF_BASE_MS } from './backoff.ts'
import { createAccess } from './brokers/access.ts'
import type { Broker, BrokerEvents } from './brokers/broker.ts'
import { startEmbeddedBroker } from './brokers/embedded.ts'
import { listenForPlugin } from './brokers/plugin-socket.ts'
import { joinBroker } from './brokers/remote.ts'
import { createBrokerSlot } from './brokers/slot.ts'
import { withPlugin } from './brokers/with-plugin.ts'
import type { BridgeConfig, Timing } from './config.ts'
import { type Credentials, openCredentials } from './credentials.ts'
import { createDownlink } from './downlink.ts'
import { startHealthServer } from './health.ts'
import { IDENTITIES, topicSuffix } from './identity.ts'
import { createIntake, type Intake } from './intake.ts'
import { createLog, type Log } from './log.ts'
import { createSources, readCounts } from './report.ts'
import { createRole, type Role } from './role.ts'
import { connectHub, type HubSocket } from './socket.ts'
import { openSpool } from './spool.ts'
import { createWorkerClock } from './up-to.ts'
import { startUplink } from './uplink.ts'
import { createWorkerClient, type WorkerClient } from './worker-client.ts'

export interface Bridge {
  /** The embedded broker's port; undefined where the bridge joined another broker. */
  readonly mqttPort: number | undefined
  /** Of /healthz and /metrics; undefined where there are none. */
  readonly healthPort: number | undefined
  /** It is the active one of its name; else it stands by. */
  isActive(): boolean
  /** What is in the spool, and what was done since the start. */
  stats(): Record<string, Record<string, number>>
  /** Ends gracefully within 10 s: notices in hand are settled, one more batch goes up, the rest stays spooled. */
  stop(): Promise<void>
}

const TIMING: Timing = {
  publishWithinMs: PUBLISH_WITHIN_MS,
  upToIntervalMs: UP_TO_INTERVAL_MS,
  backoffBaseMs: BACKOFF_BASE_MS,
  authCacheMs: 60_000,
  credentialsPollMs: 20_000,
  requestTimeoutMs: 30_000,
  leaseWaitMs: 5_000,
}
const LEASE_RETRY_MS = 5_000
const SETTLE_WITHIN_MS = 4_000
const LAST_BATCH_WITHIN_MS = 2_500
/** The file may outgrow SPOOL_MAX_MB by what is never held up: presence, `sent` and `taken`. */
const HARD_LIMIT = 1.5
const HARD_LIMIT_SPARE_BYTES = 16 * 1024 * 1024

/**
 * Starts all parts in this process, as the active bridge of its name or as a standby; rejects where the spool or the
 * port cannot be opened.
 */
export async function startBridge(
  config: BridgeConfig,
  log: Log = createLog(config.logLevel),
): Promise<Bridge> {
  const timing = { ...TIMING, ...config.timing }
  const hardLimitBytes = config.spoolMaxBytes * HARD_LIMIT + HARD_LIMIT_SPARE_BYTES
  const health = config.health && (await startHealthServer(config.health))
  const spool = await awaitDisk(
    () => openSpool(config.spoolFile, { sync: config.spoolSync, hardLimitBytes }),
    log,
  ).catch(async (error: unknown) => {
    await health?.close()
    throw error
  })
  const clock = createWorkerClock()
  const worker = createWorkerClient({ ...config, requestTimeoutMs: timing.requestTimeoutMs })
  const credentials = await awaitDisk(() => readCredentials(config, timing, worker, log), log).catch(
    async (error: unknown) => {
      await health?.close()
      spool.close()
      throw error
    },
  )
  const workerTime = () => clock.at(performance.now())
  const intake = createIntake(spool, { maxBytes: config.spoolMaxBytes, workerTime, log })
  const events = spoolEvents(intake)

  const reset = () => {
    intake.keep('', { kind: 'presence', event: 'reset' })
    credentials.unwatchAll()
  }

  let hub: HubSocket | undefined
  let role: Role | undefined
  const broker = createBrokerSlot(() => {
    // Before anything else is heard: whatever sessions the broker had are over.
    if (config.mqttUrl === undefined) reset()
    return openBroker(config, timing, worker, credentials, events, reset, () => role?.fenced(), log)
  })
  credentials.onRevoked(broker.dropSessions)
  const downlink = createDownlink({
    broker,
    intake,
    credit: config.credit,
    publishWithinMs: timing.publishWithinMs,
    grant: (add) => hub?.send({ t: 'credit', add }),
    log,
  })
  const uplink = startUplink({
    bridge: config.bridgeName,
    spool,
    intake,
    worker,
    clock,
    isActive: () => role?.isActive() ?? false,
    receivedUpTo: broker.receivedUpTo,
    upToIntervalMs: timing.upToIntervalMs,
    backoffBaseMs: timing.backoffBaseMs,
    log,
  })
  hub = connectHub({
    workerUrl: config.workerUrl,
    bridgeKey: config.bridgeKey,
    bridge: config.bridgeName,
    instance: spool.instance,
    credit: downlink.credit,
    onFrame(frame) {
      if (frame.t === 'welcome') clock.learn(frame.now, performance.now())
      else if (frame.t === 'lease') onLease(frame)
      else {
        // Before its session ends and it comes again.
        if (frame.t === 'drop') credentials.doubt(frame.username)
        downlink.receive(frame)
      }
    },
    backoffBaseMs: timing.backoffBaseMs,
    log,
  })
  role = createRole({
    waitMs: timing.leaseWaitMs,
    activate: broker.open,
    deactivate: broker.close,
    ask: () => hub?.ask(),
    log,
  })
  let askAgain: NodeJS.Timeout | undefined
  function onLease({ number, active }: { number: number; active: boolean }): void {
    const { own } = spool.lease()
    intake.flush()
    clearTimeout(askAgain)
    try {
      spool.setLease({ own: active ? number : own, known: number })
    } catch {
      log.error('the lease cannot be written')
      askAgain = setTimeout(() => hub?.ask(), LEASE_RETRY_MS)
      // What was taken in under a lease that is not on disk would be of the one before. To stand by needs no disk.
      if (active) return
    }
    role?.told(active)
  }
  const parts = {
    spool,
    intake,
    uplink,
    downlink,
    hub,
    broker,
    credentials,
    role,
    maxBytes: config.spoolMaxBytes,
    workerTime,
  }
  health?.tell(createSources(parts))
  await role.first.catch(async (error: unknown) => {
    role.stop()
    await health?.close()
    await hub.stop()
    await uplink.stop(0)
    await credentials.close()
    intake.close()
    spool.close()
    throw error
  })
  log.info({ mqttPort: broker.mqttPort, spooled: spool.depth() }, 'the bridge runs')

  async function stop(): Promise<void> {
    clearTimeout(askAgain)
    role?.stop()
    broker.stopAccepting()
    await downlink.settle(SETTLE_WITHIN_MS)
    await broker.close()
    if (config.mqttUrl === undefined) intake.keep('', { kind: 'presence', event: 'reset' })
    await uplink.stop(LAST_BATCH_WITHIN_MS)
    // Only now may another bridge take over.
    await hub?.stop()
    await health?.close()
    await credentials.close()
    intake.close()
    log.info({ spooled: spool.depth() }, 'the bridge ended')
    spool.close()
  }

  let stopped: Promise<void> | undefined
  return {
    get mqttPort() {
      return broker.mqttPort
    },
    isActive: () => role.isActive(),
    stats: () => readCounts(parts),
    healthPort: health?.port,
    stop: () => {
      stopped ??= stop()
      return stopped
    },
  }
}

/** What the Worker tells of devices, beside the spool. */
const readCredentials = (config: BridgeConfig, timing: Timing, worker: WorkerClient, log: Log): Credentials =>
  openCredentials({
    file: config.credentialsFile ?? config.spoolFile.replace(/(\.db)?$/, '.credentials.db'),
    origin: `${config.workerUrl} ${config.bridgeName}`,
    pull: worker.readCredentials,
    pollMs: timing.credentialsPollMs,
    backoffBaseMs: timing.backoffBaseMs,
    log,
  })

/** What the broker hears, into the spool, in the order in which it hears it. */
function spoolEvents(intake: Intake): BrokerEvents {
  return {
    message: (username, topic, payload, gone) =>
      intake.message(
        username,
        { kind: 'message', username, topic, payload: Buffer.from(payload).toString('base64') },
        gone,
      ),
    isFull: intake.isFull,
    room: intake.room,
    connected: (username) => intake.keep(username, { kind: 'presence', event: 'connected', username }),
    disconnected: (username) => intake.keep(username, { kind: 'presence', event: 'disconnected', username }),
    subscribed: (username, topic) =>
      intake.keep(username, { kind: 'presence', event: 'subscribed', username, topic }),
  }
}

async function openBroker(
  config: BridgeConfig,
  timing: Timing,
  worker: WorkerClient,
  credentials: Credentials,
  events: BrokerEvents,
  reset: () => void,
  onFenced: () => void,
  log: Log,
): Promise<Broker> {
  if (config.mqttUrl !== undefined) {
    const { mqttUrl: url, bridgeName: bridge, mqttLogin: login, sharedGroup } = config
    const identity = IDENTITIES[config.identity ?? 'topic']
    // Rules are believed where topics are; a plugin tells by itself.
    const presenceByRules = identity === topicSuffix && config.pluginSocket === undefined
    const join = () =>
      joinBroker({ url, bridge, identity, login, sharedGroup, presenceByRules, events, onFenced, log })
    if (config.pluginSocket === undefined) return join()
    const watched = watchSessions(events, credentials)
    const plugin = await listenForPlugin({
      path: config.pluginSocket,
      credentials,
      events: watched,
      reset,
      log,
    })
    return withPlugin(join(), plugin)
  }
  const { host, mqttPort: port, maxConnections, authConcurrency: concurrency } = config
  const access = createAccess(worker, credentials, { concurrency, cacheMs: timing.authCacheMs })
  const watched = watchSessions(events, credentials)
  return startEmbeddedBroker({ host, port, maxConnections, access, events: watched, log })
}

/** Who is connected is to be told when its credentials end. */
const watchSessions = (events: BrokerEvents, credentials: Credentials): BrokerEvents => ({
  ...events,
  connected(username) {
    credentials.watch(username)
    events.connected(username)
  },
  disconnected(username) {
    credentials.unwatch(username)
    events.disconnected(username)
  },
})
