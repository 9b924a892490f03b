import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'

/** The bridge's own counters by part. The metrics hold none of their own: they are filled from these at each scrape. */
export type Counts = Record<string, Record<string, number>>

interface Family {
  name: string
  help: string
  /** Label → the part and the name of its counter; a family without labels has one entry, ''. */
  values: Record<string, [part: string, name: string]>
  label?: string
}

const COUNTERS: Family[] = [
  {
    name: 'messages_total',
    help: 'Device messages that were spooled',
    values: { '': ['intake', 'messages'] },
  },
  { name: 'batches_total', help: 'Batches that the Worker answered', values: { '': ['uplink', 'batches'] } },
  {
    name: 'items_total',
    help: 'Results of the items in these batches',
    label: 'result',
    values: {
      taken: ['uplink', 'taken'],
      rejected: ['uplink', 'rejected'],
      retried: ['uplink', 'retried'],
      over_share: ['uplink', 'overShare'],
      dead: ['uplink', 'dead'],
    },
  },
  {
    name: 'notices_total',
    help: 'Results of the notices that the hub sent',
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
    help: 'Connections made by the bridge',
    label: 'to',
    values: { hub: ['hub', 'connects'], broker: ['broker', 'connects'] },
  },
  {
    name: 'refused_total',
    help: 'Connections, messages and subscriptions that were refused',
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
    name: 'over_share_total',
    help: 'How often a device was over its share, and was held back or refused',
    label: 'what',
    values: {
      message: ['shares', 'messages'],
      request: ['shares', 'requests'],
      connection: ['shares', 'connections'],
      spool: ['shares', 'spool'],
      dropped: ['broker', 'droppedOverShare'],
    },
  },
  {
    name: 'guesses_refused_total',
    help: 'Connections that were refused unverified, after wrong credentials from the same address',
    values: { '': ['guesses', 'guesses'] },
  },
  {
    name: 'credentials_total',
    help: 'Pulls of the credentials feed, and what they brought',
    label: 'what',
    values: {
      pull: ['credentials', 'pulls'],
      failure: ['credentials', 'failures'],
      change: ['credentials', 'changes'],
      revoked: ['credentials', 'revoked'],
    },
  },
  {
    name: 'files_damaged_total',
    help: 'Damaged files that were moved aside and begun anew',
    label: 'file',
    values: { spool: ['spool', 'damaged'], credentials: ['credentials', 'damaged'] },
  },
  {
    name: 'frames_unreadable_total',
    help: 'Frames of the hub that the bridge could not read, and ignored',
    values: { '': ['hub', 'unreadable'] },
  },
  {
    name: 'plugin_questions_total',
    help: 'Questions of the Mosquitto plugin, and how many were allowed or about an unknown device',
    label: 'what',
    values: {
      asked: ['broker', 'plugin_asked'],
      allowed: ['broker', 'plugin_allowed'],
      unknown: ['broker', 'plugin_unknown'],
    },
  },
]

const GAUGES: Family[] = [
  { name: 'spool_depth', help: 'Items in the spool', values: { '': ['figures', 'depth'] } },
  { name: 'spool_bytes', help: 'Size of the items in the spool', values: { '': ['figures', 'bytes'] } },
  { name: 'spool_max_bytes', help: 'SPOOL_MAX_MB in bytes', values: { '': ['figures', 'maxBytes'] } },
  {
    name: 'lag_seconds',
    help: 'Age of the oldest item in the spool',
    values: { '': ['figures', 'lagSeconds'] },
  },
  {
    name: 'devices_over_share',
    help: 'Devices that were over a share within the last minute',
    values: { '': ['figures', 'overShare'] },
  },
  {
    name: 'active',
    help: '1 if this bridge is the active one of its name, 0 if it stands by',
    values: { '': ['figures', 'active'] },
  },
]

/** The metrics for Prometheus. No label names a device. */
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
