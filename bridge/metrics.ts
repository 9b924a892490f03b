import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'

/** The bridge's own counts, by part: they are the only books that are kept, and are read when somebody asks. */
export type Counts = Record<string, Record<string, number>>

interface Family {
  name: string
  help: string
  /** Label → where its value stands; an empty label for a family without. */
  values: Record<string, [part: string, name: string]>
  label?: string
}

const COUNTERS: Family[] = [
  { name: 'messages_total', help: 'Device messages taken in', values: { '': ['intake', 'messages'] } },
  { name: 'batches_total', help: 'Batches that the Worker answered', values: { '': ['uplink', 'batches'] } },
  {
    name: 'items_total',
    help: 'What became of the items of these batches',
    label: 'result',
    values: {
      taken: ['uplink', 'taken'],
      rejected: ['uplink', 'rejected'],
      retried: ['uplink', 'retried'],
      dead: ['uplink', 'dead'],
    },
  },
  {
    name: 'notices_total',
    help: 'What became of the notices that the hub sent',
    label: 'result',
    values: {
      taken: ['downlink', 'taken'],
      offline: ['downlink', 'offline'],
      returned: ['downlink', 'returned'],
      ignored: ['downlink', 'ignored'],
    },
  },
  {
    name: 'connects_total',
    help: 'Connections that were made',
    label: 'to',
    values: { hub: ['hub', 'connects'], broker: ['broker', 'connects'] },
  },
  {
    name: 'refused_total',
    help: 'What devices and strangers sent and was not taken in',
    label: 'what',
    values: {
      unidentified: ['broker', 'unidentified'],
      publish: ['broker', 'refusedPublishes'],
      filter: ['broker', 'refusedFilters'],
      packet: ['broker', 'tooLarge'],
      connection: ['broker', 'denied'],
    },
  },
  {
    name: 'credentials_total',
    help: 'What the feed of credentials did',
    label: 'what',
    values: {
      pull: ['credentials', 'pulls'],
      failure: ['credentials', 'failures'],
      change: ['credentials', 'changes'],
      revoked: ['credentials', 'revoked'],
    },
  },
  {
    name: 'plugin_questions_total',
    help: 'What the Mosquitto plugin asked, and what of it was allowed or not known',
    label: 'what',
    values: {
      asked: ['broker', 'plugin_asked'],
      allowed: ['broker', 'plugin_allowed'],
      unknown: ['broker', 'plugin_unknown'],
    },
  },
]

const GAUGES: Family[] = [
  { name: 'spool_depth', help: 'Items that wait for the Worker', values: { '': ['figures', 'depth'] } },
  { name: 'spool_bytes', help: 'Their size', values: { '': ['figures', 'bytes'] } },
  { name: 'spool_max_bytes', help: 'SPOOL_MAX_MB', values: { '': ['figures', 'maxBytes'] } },
  { name: 'lag_seconds', help: 'Age of the oldest of them', values: { '': ['figures', 'lagSeconds'] } },
  {
    name: 'active',
    help: 'This bridge is the active one of its name',
    values: { '': ['figures', 'active'] },
  },
]

/** For Prometheus. No label names a device. */
export function createMetrics(read: () => Counts): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const fill = (metric: Counter | Gauge, { label, values }: Family): void => {
    metric.reset()
    const counts = read()
    for (const [name, [part, key]] of Object.entries(values)) {
      const value = counts[part]?.[key]
      if (value === undefined) continue
      if (label === undefined) metric.inc(value)
      else metric.inc({ [label]: name }, value)
    }
  }
  for (const [Kind, families] of [
    [Counter, COUNTERS],
    [Gauge, GAUGES],
  ] as const) {
    for (const family of families) {
      const labelNames = family.label === undefined ? [] : [family.label]
      const metric: Counter | Gauge = new Kind({
        name: `edge_ota_bridge_${family.name}`,
        help: family.help,
        labelNames,
        registers: [registry],
        collect: () => fill(metric, family),
      })
    }
  }
  return registry
}
