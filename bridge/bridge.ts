import { PUBLISH_WITHIN_MS, UP_TO_INTERVAL_MS } from '../src/protocol/bridge.ts'
import { awaitDisk } from './await-disk.ts'
import { BACKOFF_BASE_MS } from './backoff.ts'
import { createAccess } from './brokers/access.ts'
import type { Broker, BrokerEvents } from './brokers/broker.ts'
import { startEmbeddedBroker } from './brokers/embedded.ts'
import { createGuesses, type Guesses } from './brokers/guesses.ts'
import { joinBroker } from './brokers/joined.ts'
import { listenForPlugin } from './brokers/plugin-socket.ts'
import { createSwitchedBroker } from './brokers/switched.ts'
import { withPlugin } from './brokers/with-plugin.ts'
import type { BridgeConfig, Timing } from './config.ts'
import { type Credentials, openCredentials } from './credentials.ts'
import type { Damaged } from './database-file.ts'
import { createDownlink } from './downlink.ts'
import { startHealthServer } from './health.ts'
import { IDENTITIES, topicSuffix } from './identity.ts'
import { createIntake, type Intake } from './intake.ts'
import { createLog, type Log } from './log.ts'
import { createHealthSources, readCounts } from './report.ts'
import { createRole, type Role } from './role.ts'
import { createShares, DEVICE_SHARES, type DeviceShares, type Shares } from './shares.ts'
import { connectHub, type HubSocket } from './socket.ts'
import { openSpool } from './spool.ts'
import { createWorkerClock } from './up-to.ts'
import { startUplink } from './uplink.ts'
import { createWorkerClient, type WorkerClient } from './worker-client.ts'

export interface Bridge {
  /** The embedded broker's port; undefined if the bridge joined another broker, or stands by. */
  readonly mqttPort: number | undefined
  /** The port of /healthz and /metrics; undefined if HEALTH_PORT is not set. */
  readonly healthPort: number | undefined
  /** False for a standby: another bridge of the same name is the active one. */
  isActive(): boolean
  /** Counters since the start, and the size of the spool, by part. */
  stats(): Record<string, Record<string, number>>
  /** Ends within 10 s: settles the notices in hand and posts one more batch; the rest stays in the spool. */
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
/** SPOOL_MAX_MB holds up device messages only. Presence, `sent` and `taken` may let the file grow by this factor. */
const HARD_LIMIT = 1.5
const HARD_LIMIT_SPARE_BYTES = 16 * 1024 * 1024
/** Room for the largest message of a device, and some more. */
const LEAST_SPOOL_SHARE_BYTES = 128 * 1024

/**
 * Starts all parts in this process, as the active bridge of its name or as a standby. Rejects if the spool or a port
 * cannot be opened.
 */
export async function startBridge(
  config: BridgeConfig,
  log: Log = createLog(config.logLevel),
): Promise<Bridge> {
  const timing = { ...TIMING, ...config.timing }
  const hardLimitBytes = config.spoolMaxBytes * HARD_LIMIT + HARD_LIMIT_SPARE_BYTES
  const health = config.health && (await startHealthServer(config.health))
  let hub: HubSocket | undefined
  const logDamaged = (file: string) => (damaged: Damaged) =>
    log.error(
      { code: 'bridge.file_damaged', file, ...damaged },
      'a damaged file was moved aside and begun anew',
    )
  const onSpoolDamaged = (damaged: Damaged) => {
    logDamaged('spool')(damaged)
    // What was in it is missing. A new lease tells the tasks to count silences anew.
    setImmediate(() => hub?.askForLease())
  }
  const spool = await awaitDisk(
    () => openSpool(config.spoolFile, { sync: config.spoolSync, hardLimitBytes, onDamaged: onSpoolDamaged }),
    log,
  ).catch(async (error: unknown) => {
    await health?.close()
    throw error
  })
  const clock = createWorkerClock()
  const worker = createWorkerClient({ ...config, requestTimeoutMs: timing.requestTimeoutMs })
  const credentials = await awaitDisk(
    () => openBridgeCredentials(config, timing, worker, logDamaged('credentials'), log),
    log,
  ).catch(async (error: unknown) => {
    await health?.close()
    spool.close()
    throw error
  })
  const workerTime = () => clock.at(performance.now())
  const allowed = { ...DEVICE_SHARES, ...config.shares }
  const shares = createShares(allowed, log)
  const intake = createIntake(spool, {
    maxBytes: config.spoolMaxBytes,
    maxBytesOfDevice: Math.max((config.spoolMaxBytes * allowed.spoolPercent) / 100, LEAST_SPOOL_SHARE_BYTES),
    workerTime,
    onShare: (username) => shares.note(username, 'spool'),
    log,
  })
  shares.onOver((username, share, times) =>
    intake.keep(username, { kind: 'limited', username, share, times }),
  )
  const guesses = createGuesses()
  const events = spoolEvents(intake, shares)

  const reset = () => {
    intake.keep('', { kind: 'presence', event: 'reset' })
    credentials.unwatchAll()
  }

  let role: Role | undefined
  const broker = createSwitchedBroker(() => {
    // Must come before any event of the new broker: all sessions of the embedded broker ended with the old one.
    if (config.mqttUrl === undefined) reset()
    const limits = { allowed, shares, guesses }
    return openBroker(
      config,
      timing,
      worker,
      credentials,
      limits,
      events,
      reset,
      () => role?.sessionTakenOver(),
      log,
    )
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
        // Must come before its session ends, since the device may reconnect at once with its old credentials.
        if (frame.t === 'drop') credentials.invalidate(frame.username)
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
    askForLease: () => hub?.askForLease(),
    log,
  })
  let leaseRetry: NodeJS.Timeout | undefined
  function onLease({ number, active }: { number: number; active: boolean }): void {
    const { own } = spool.lease()
    intake.flush()
    clearTimeout(leaseRetry)
    try {
      spool.setLease({ own: active ? number : own, known: number })
    } catch {
      log.error({ code: 'bridge.lease_not_written' }, 'the lease cannot be written')
      leaseRetry = setTimeout(() => hub?.askForLease(), LEASE_RETRY_MS)
      // Messages taken in now would be spooled under the previous lease. To stand by needs no disk.
      if (active) return
    }
    role?.setActive(active)
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
    shares,
    guesses,
    maxBytes: config.spoolMaxBytes,
    workerTime,
  }
  health?.setSources(createHealthSources(parts))
  await role.started.catch(async (error: unknown) => {
    role.stop()
    await health?.close()
    await hub.stop()
    await uplink.stop(0)
    await credentials.close()
    intake.close()
    spool.close()
    throw error
  })
  log.info({ code: 'bridge.started', mqttPort: broker.mqttPort, spooled: spool.depth() }, 'the bridge runs')

  async function stop(): Promise<void> {
    clearTimeout(leaseRetry)
    role?.stop()
    broker.stopAccepting()
    await downlink.settle(SETTLE_WITHIN_MS)
    await broker.close()
    shares.close()
    if (config.mqttUrl === undefined) intake.keep('', { kind: 'presence', event: 'reset' })
    await uplink.stop(LAST_BATCH_WITHIN_MS)
    // This gives the lease back, so another bridge may take over only from here on.
    await hub?.stop()
    await health?.close()
    await credentials.close()
    intake.close()
    log.info({ code: 'bridge.stopped', spooled: spool.depth() }, 'the bridge ended')
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

/** By default its file lies beside the spool. */
const openBridgeCredentials = (
  config: BridgeConfig,
  timing: Timing,
  worker: WorkerClient,
  onDamaged: (damaged: Damaged) => void,
  log: Log,
): Credentials =>
  openCredentials({
    file: config.credentialsFile ?? config.spoolFile.replace(/(\.db)?$/, '.credentials.db'),
    origin: `${config.workerUrl} ${config.bridgeName}`,
    onDamaged,
    pull: worker.readCredentialsPage,
    pollMs: timing.credentialsPollMs,
    backoffBaseMs: timing.backoffBaseMs,
    log,
  })

/** Spools what the broker hears, in the order in which it hears it. */
function spoolEvents(intake: Intake, shares: Shares): BrokerEvents {
  return {
    message: (username, topic, payload, isGone) =>
      intake.message(
        username,
        { kind: 'message', username, topic, payload: Buffer.from(payload).toString('base64') },
        isGone,
      ),
    isFull: intake.isFull,
    isOverShare(username) {
      const isOver = intake.hasShare(username)
      if (isOver) shares.note(username, 'spool')
      return isOver
    },
    waitForRoom: intake.waitForRoom,
    connected: (username) => intake.keep(username, { kind: 'presence', event: 'connected', username }),
    disconnected: (username) => intake.keep(username, { kind: 'presence', event: 'disconnected', username }),
    subscribed: (username, topic) =>
      intake.keep(username, { kind: 'presence', event: 'subscribed', username, topic }),
  }
}

interface Limits {
  allowed: DeviceShares
  shares: Shares
  guesses: Guesses
}

async function openBroker(
  config: BridgeConfig,
  timing: Timing,
  worker: WorkerClient,
  credentials: Credentials,
  { allowed, shares, guesses }: Limits,
  events: BrokerEvents,
  reset: () => void,
  onTakenOver: () => void,
  log: Log,
): Promise<Broker> {
  if (config.mqttUrl !== undefined) {
    const { mqttUrl: url, bridgeName: bridge, mqttLogin: login, sharedGroup } = config
    const identity = IDENTITIES[config.identity ?? 'topic']
    // Presence topics can be trusted only if devices cannot publish on them, as with rewritten topics. A plugin reports
    // presence by itself.
    const presenceByRules = identity === topicSuffix && config.pluginSocket === undefined
    const join = () =>
      joinBroker({ url, bridge, identity, login, sharedGroup, presenceByRules, events, onTakenOver, log })
    if (config.pluginSocket === undefined) return join()
    const watched = watchSessions(events, credentials)
    const plugin = await listenForPlugin({
      path: config.pluginSocket,
      credentials,
      shares,
      guesses,
      events: watched,
      reset,
      log,
    })
    return withPlugin(join(), plugin)
  }
  const { host, mqttPort: port, maxConnections, authConcurrency: concurrency } = config
  const access = createAccess(worker, credentials, guesses, { concurrency, cacheMs: timing.authCacheMs })
  const watched = watchSessions(events, credentials)
  const connectionsPerDevice = allowed.connections
  return startEmbeddedBroker({
    host,
    port,
    maxConnections,
    connectionsPerDevice,
    access,
    shares,
    events: watched,
    log,
  })
}

/** Watches the credentials of every connected username, so that its sessions end with them. */
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
