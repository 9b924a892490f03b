import type { BrokerSlot } from './brokers/slot.ts'
import type { Credentials } from './credentials.ts'
import type { Downlink } from './downlink.ts'
import { createSince, type HealthReport, type HealthSources, type PartHealth } from './health.ts'
import type { Intake } from './intake.ts'
import { type Counts, createMetrics } from './metrics.ts'
import type { Role } from './role.ts'
import type { HubSocket } from './socket.ts'
import type { Spool } from './spool.ts'
import type { Uplink } from './uplink.ts'

/** The parts of a running bridge, as far as its health and its figures need them. */
export interface Parts {
  spool: Spool
  intake: Intake
  uplink: Uplink
  downlink: Downlink
  hub: HubSocket
  broker: BrokerSlot
  credentials: Credentials
  role: Role
  maxBytes: number
  /** The Worker's time now, or earlier, in ms; undefined before its first answer. */
  workerTime: () => number | undefined
}

const WELL = ['ok', 'standby']

/** What /healthz and /metrics say of them. */
export function createSources(parts: Parts): HealthSources {
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
        active: Number(parts.role.isActive()),
      },
    })),
  }
}

/** What is in the spool, and what was done since the start. */
export const readCounts = ({ spool, intake, uplink, downlink, hub, broker, credentials }: Parts): Counts => ({
  spool: { depth: spool.depth(), bytes: spool.bytes() },
  intake: { ...intake.counts },
  uplink: { ...uplink.counts },
  downlink: { ...downlink.counts },
  hub: { ...hub.counts },
  broker: { ...broker.counts },
  credentials: { ...credentials.counts },
})

/**
 * How old what waits longest is. What came before the Worker had told its time is as old as it was seen to wait; and
 * where the Worker has told nothing in this run yet, our own clock has to do: it is only shown.
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

function createReport(parts: Parts, lagSeconds: () => number): () => HealthReport {
  const { spool, intake, uplink, hub, broker, credentials, role, maxBytes } = parts
  const since = createSince()
  const part = (name: string, state: string, more: Record<string, unknown> = {}): PartHealth => ({
    ...{ state, since: since(name, state) },
    ...more,
  })
  return () => {
    const active = role.isActive()
    const worker = uplink.worker()
    const { state: brokerState, reason } = broker.health()
    const disk = intake.hasFailed() || uplink.hasStumbled() ? 'disk_error' : intake.isFull() ? 'full' : 'ok'
    const health = {
      broker: active ? part('broker', brokerState, { reason }) : part('broker', 'standby'),
      worker: part('worker', worker.state, { reason: worker.reason, lastAnswerAt: worker.lastAnswerAt }),
      hub: part('hub', hub.isOpen() ? 'ok' : 'away', { active }),
      spool: part('spool', disk, {
        ...{ depth: spool.depth(), bytes: spool.bytes(), maxBytes },
        oldestAgeSeconds: lagSeconds(),
      }),
      credentials: part('credentials', credentials.isComplete() ? 'ok' : 'incomplete'),
    }
    const isWell = Object.values(health).every(({ state }) => WELL.includes(state))
    return { status: disk === 'disk_error' ? 'error' : isWell ? 'ok' : 'degraded', parts: health }
  }
}
