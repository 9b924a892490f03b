import { Buffer } from 'node:buffer'
import type { Env } from '../common/env.ts'
import { logError } from '../common/log.ts'
import type { WebhookEvent } from '../webhooks/event.ts'
import { publishEvents } from '../webhooks/publish.ts'
import { findAudience } from './store.ts'

/** Something that happened to a hub, to be reported to the tenants that it serves. */
export interface Alert {
  type: 'bridge.away' | 'rejections.spiking'
  /** Milliseconds since 1970. */
  at: number
  /** For every tenant. */
  data: Record<string, unknown>
  /** Added only if the hub is the tenant's own: figures of a shared one would tell of other tenants' devices. */
  ownData?: Record<string, unknown>
}

/** How far the report of an alert has come. */
interface KeptAlert extends Alert {
  dueAt: number
  tries: number
  /** The last tenant to which it was reported. */
  after: string
  /** An earlier tenant could not be reached. */
  hasFailed: boolean
}

const PREFIX = 'alert/'
/** An absence or an hour of spikes makes one alert: so many wait only if nothing can be reported for long. */
const MAX_ALERTS = 20
const MAX_TRIES = 100
const TENANTS_PER_PAGE = 20
const RETRY_MS = 60_000

type Storage = Pick<DurableObjectStorage, 'kv'>

/** Keeps an alert until it is reported. */
export function keepAlert({ kv }: Storage, alert: Alert): void {
  if ([...kv.list({ prefix: PREFIX, limit: MAX_ALERTS })].length === MAX_ALERTS) return
  const kept: KeptAlert = { ...alert, dueAt: alert.at, tries: 0, after: '', hasFailed: false }
  kv.put(`${PREFIX}${alert.at}/${alert.type}`, kept)
}

/** When the next alert is due, in ms since 1970; null if none is kept. */
export function nextAlert({ kv }: Storage): number | null {
  const times = [...kv.list<KeptAlert>({ prefix: PREFIX })].map(([, { dueAt }]) => dueAt)
  return times.length === 0 ? null : Math.min(...times)
}

/**
 * Reports each alert that is due to one page of tenants. If it is cut off, it does that page again, under the same
 * event ids. If a tenant could not be reached, all tenants have their turn once more after the last page.
 */
export async function tellAlerts(env: Env, storage: Storage, hub: string, now: number): Promise<void> {
  for (const [key, alert] of [...storage.kv.list<KeptAlert>({ prefix: PREFIX })]) {
    if (alert.dueAt > now) continue
    const next = await tellPage(env, hub, alert, now)
    if (next) storage.kv.put(key, next)
    else storage.kv.delete(key)
  }
}

/** What is left to report; null if nothing is, or if it was tried often enough. */
async function tellPage(env: Env, hub: string, alert: KeptAlert, now: number): Promise<KeptAlert | null> {
  let { after, hasFailed } = alert
  let isLast = true
  try {
    const tenantIds = await findAudience(env.DB, hub, alert.type, after, TENANTS_PER_PAGE)
    const told = await Promise.allSettled(
      tenantIds.map(async (tenantId) => publishEvents(env, tenantId, [await toEvent(hub, tenantId, alert)])),
    )
    hasFailed ||= told.some(({ status }) => status === 'rejected')
    isLast = tenantIds.length < TENANTS_PER_PAGE
    after = tenantIds.at(-1) ?? after
  } catch {
    hasFailed = true
  }
  if (!isLast) return { ...alert, after, hasFailed }
  if (!hasFailed) return null
  logError('hub.alert_failed', { hub, type: alert.type, tries: alert.tries + 1 })
  if (alert.tries + 1 >= MAX_TRIES) return null
  return { ...alert, tries: alert.tries + 1, dueAt: now + RETRY_MS, after: '', hasFailed: false }
}

/** The event has the same id however often it is made. */
async function toEvent(hub: string, tenantId: string, alert: Alert): Promise<WebhookEvent> {
  const isOwn = !hub.startsWith('*')
  const name = [tenantId, hub, alert.type, alert.at].join('\n')
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(name))
  return {
    id: `evt_${Buffer.from(digest).toString('hex').slice(0, 32)}`,
    type: alert.type,
    at: alert.at,
    data: {
      bridge: hub.slice(hub.indexOf('/') + 1),
      scope: isOwn ? 'tenant' : 'installation',
      ...alert.data,
      ...(isOwn && alert.ownData),
    },
  }
}
