import type { Guesses } from './brokers/guesses.ts'
import type { SwitchedBroker } from './brokers/switched.ts'
import type { Credentials } from './credentials.ts'
import type { Downlink } from './downlink.ts'
import { createSince, type HealthReport, type HealthSources, type PartHealth } from './health.ts'
import type { Intake } from './intake.ts'
import { type Counts, createMetrics } from './metrics.ts'
import type { Role } from './role.ts'
import type { Shares } from './shares.ts'
import type { HubSocket } from './socket.ts'
import type { Spool } from './spool.ts'
import type { Uplink } from './uplink.ts'

/** The parts of a running bridge that its health and its metrics are read from. */
export interface Parts {
  spool: Spool
  intake: Intake
  uplink: Uplink
  downlink: Downlink
  hub: HubSocket
  broker: SwitchedBroker
  credentials: Credentials
  role: Role
  shares: Shares
  guesses: Guesses
  maxBytes: number
  /** The Worker's time in ms, never later than it really is; undefined before the Worker's first response. */
  workerTime: () => number | undefined
}

/** States of a part that needs nothing. */
const WELL = ['ok', 'standby', 'limiting']

/** Makes the sources of /healthz and /metrics. */
export function createHealthSources(parts: Parts): HealthSources {
  const lagSeconds = createLag(parts)
  return {
    report: createReport(parts, lagSeconds),
    metrics: createMetrics(() => ({
      ...readCounts(parts),
      figures: {
        depth: parts.spool.depth(),
        bytes: parts.spool.bytes(),
        maxBytes: parts.maxBytes,
        lagSeconds: lagSeconds(),
        overShare: parts.shares.overNow(),
        active: Number(parts.role.isActive()),
      },
    })),
  }
}

/** The counters of all parts since the start, and the size of the spool. */
export const readCounts = ({ spool, intake, uplink, ...parts }: Parts): Counts => ({
  spool: { depth: spool.depth(), bytes: spool.bytes(), damaged: spool.damage.count() },
  intake: { ...intake.counts },
  uplink: { ...uplink.counts },
  downlink: { ...parts.downlink.counts },
  hub: { ...parts.hub.counts },
  broker: { ...parts.broker.counts },
  credentials: { ...parts.credentials.counts, damaged: parts.credentials.damage.count() },
  shares: { ...parts.shares.counts },
  guesses: { ...parts.guesses.counts },
})

/**
 * The age of the oldest spooled item. An item that came before the bridge knew the Worker's time counts from when it
 * was first seen here. Before the Worker's first response in this run the machine's own clock is used: the figure is
 * only shown, never decided on.
 */
function createLag({ spool, workerTime }: Parts): () => number {
  let waitingSince: number | undefined
  return () => {
    const oldest = spool.oldest()
    if (!oldest) {
      waitingSince = undefined
      return 0
    }
    waitingSince ??= performance.now()
    const ms =
      oldest.at === null ? performance.now() - waitingSince : (workerTime() ?? Date.now()) - oldest.at
    return Math.max(0, Math.round(ms / 1000))
  }
}

/** A damaged file was moved aside, and a person has not looked at it yet. */
const stateAfter = (damagedFiles: string[]) => (damagedFiles.length > 0 ? 'replaced' : 'ok')
const named = (damagedFiles: string[]) => (damagedFiles.length > 0 ? { damagedFiles } : {})

function createReport(parts: Parts, lagSeconds: () => number): () => HealthReport {
  const { spool, intake, uplink, hub, broker, credentials, role, shares, maxBytes } = parts
  const since = createSince()
  const part = (name: string, state: string, more: Record<string, unknown> = {}): PartHealth => ({
    state,
    since: since(name, state),
    ...more,
  })
  return () => {
    const active = role.isActive()
    const worker = uplink.worker()
    const { state: brokerState, reason } = broker.health()
    const lost = { spool: spool.damage.kept(), credentials: credentials.damage.kept() }
    const disk =
      intake.hasFailed() || uplink.hasFailed()
        ? 'disk_error'
        : intake.isFull()
          ? 'full'
          : stateAfter(lost.spool)
    const health = {
      broker: active ? part('broker', brokerState, { reason }) : part('broker', 'standby'),
      worker: part('worker', worker.state, { reason: worker.reason, lastAnswerAt: worker.lastAnswerAt }),
      hub: part('hub', hub.isOpen() ? 'ok' : 'away', { active }),
      spool: part('spool', disk, {
        depth: spool.depth(),
        bytes: spool.bytes(),
        maxBytes,
        oldestAgeSeconds: lagSeconds(),
        ...named(lost.spool),
      }),
      credentials: part(
        'credentials',
        credentials.isComplete() ? stateAfter(lost.credentials) : 'incomplete',
        named(lost.credentials),
      ),
      shares: part('shares', shares.overNow() > 0 ? 'limiting' : 'ok', { devices: shares.overNow() }),
    }
    const isWell = Object.values(health).every(({ state }) => WELL.includes(state))
    return { status: disk === 'disk_error' ? 'error' : isWell ? 'ok' : 'degraded', parts: health }
  }
}
