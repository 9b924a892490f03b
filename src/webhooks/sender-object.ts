import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { openDb } from '../db/client.ts'
import { addressRules } from './address.ts'
import { holdAfter, waitAfter } from './backoff.ts'
import type { Delivery, Outcome, SenderStatus } from './delivery.ts'
import { openDeliveryStorage } from './delivery-storage.ts'
import type { WebhookEvent } from './event.ts'
import { GONE, send } from './send.ts'
import { findWebhook, type WebhookRef } from './store.ts'
import type { Webhook } from './webhook.ts'

/** Deliveries in one turn of the alarm, and how many of them are made at once: a Worker has 6 connections. */
const PAGE_SIZE = 20
const AT_ONCE = 4
const RETRY_MS = 30_000

/** Nothing is sent before `until`. */
interface Hold {
  failedPages: number
  until: number
}

/**
 * One per webhook: keeps its deliveries and makes them, in its alarm, until each has arrived or was tried often enough.
 * Address and secret are in the database and are read for each page: if the webhook is gone there, its deliveries go,
 * too. The outcome of a try is written after its answer, so a try may be repeated, under the same id, and none is lost.
 */
export class WebhookSender extends DurableObject<Env> {
  /**
   * Adds events, each once by its id, however often it comes. The caller has checked that the webhook asks for them.
   */
  async enqueue(ref: WebhookRef, events: WebhookEvent[]): Promise<void> {
    const now = Date.now()
    const dropped = openDeliveryStorage(this.ctx.storage).insert(events, now)
    const { kv } = this.ctx.storage
    if (dropped > 0) kv.put('dropped', (kv.get<number>('dropped') ?? 0) + dropped)
    this.#remember(ref)
    await this.#rearm()
  }

  /** Checks within `inMs` milliseconds whether the webhook is still in the database. */
  async wake(ref: WebhookRef, inMs = 0): Promise<void> {
    this.#remember(ref)
    await this.#armBy(Date.now() + inMs)
  }

  /** The webhook was changed: what is known about its receiver no longer counts. */
  async enable(): Promise<void> {
    for (const key of ['disabled', 'hold']) this.ctx.storage.kv.delete(key)
    await this.#rearm()
  }

  status(): SenderStatus {
    const { kv } = this.ctx.storage
    return {
      disabled: kv.get<SenderStatus['disabled']>('disabled') ?? null,
      pending: openDeliveryStorage(this.ctx.storage).countPending(),
      dropped: kv.get<number>('dropped') ?? 0,
    }
  }

  /** Newest first, those before the number `before`; one more than `limit`, for `page`. */
  deliveries(before: number, limit: number): Delivery[] {
    return openDeliveryStorage(this.ctx.storage).list(before, limit)
  }

  /** Sends a delivery again, under its id; null if it is not kept. */
  async replay(deliveryId: string): Promise<Delivery | null> {
    const delivery = openDeliveryStorage(this.ctx.storage).replay(deliveryId, Date.now())
    if (!delivery) return null
    await this.#rearm()
    return delivery
  }

  override async alarm(): Promise<void> {
    const ref = this.ctx.storage.kv.get<WebhookRef>('ref')
    if (!ref) return
    try {
      if (await this.#makePage(ref)) await this.#rearm()
    } catch (error) {
      logError('webhook.alarm', { webhookId: ref.webhookId, ...errorFields(error) })
      // Whatever fails, its own tables too: the platform gives up an alarm that fails again and again.
      await this.#armBy(Date.now() + RETRY_MS)
    }
  }

  /** False if the webhook is gone; then all that was kept here is deleted. */
  async #makePage(ref: WebhookRef): Promise<boolean> {
    const { storage } = this.ctx
    const webhook = await findWebhook(openDb(this.env.DB), ref)
    if (!webhook) {
      await storage.deleteAll()
      return false
    }
    const now = Date.now()
    const deliveries = openDeliveryStorage(storage)
    if (this.status().disabled?.url === webhook.url) {
      deliveries.failPending('the webhook is disabled: its receiver answered 410', now)
    } else if ((storage.kv.get<Hold>('hold')?.until ?? 0) <= now) {
      const due = deliveries.readDue(now, PAGE_SIZE)
      const outcomes: Outcome[] = []
      const queue = due.values()
      const work = async () => {
        for (const delivery of queue) {
          if (outcomes.some(({ status }) => status === GONE)) return
          const outcome = await send(webhook, delivery, addressRules(this.env))
          this.#settle(webhook, delivery, outcome)
          outcomes.push(outcome)
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, work))
      this.#hold(outcomes)
    }
    deliveries.prune(now)
    return true
  }

  #settle(webhook: Webhook, delivery: Delivery, outcome: Outcome): void {
    const now = Date.now()
    const wait =
      outcome.error === null || outcome.isFinal
        ? null
        : waitAfter(delivery.attempts + 1, outcome.retryAfterMs, Math.random())
    const dueAt = wait === null ? null : now + wait
    openDeliveryStorage(this.ctx.storage).writeOutcome(delivery, outcome, dueAt, now)
    if (outcome.status === GONE) this.ctx.storage.kv.put('disabled', { at: now, url: webhook.url })
  }

  /** A receiver that takes nothing, or asks for time, is not called for each of thousands of deliveries. */
  #hold(outcomes: Outcome[]): void {
    if (outcomes.length === 0) return
    const { kv } = this.ctx.storage
    const before = kv.get<Hold>('hold')
    const failedPages = outcomes.some(({ error }) => error === null) ? 0 : (before?.failedPages ?? 0) + 1
    const asked = Math.max(
      ...outcomes.map(({ error, retryAfterMs }) => (error === null ? 0 : (retryAfterMs ?? 0))),
    )
    const wait = Math.max(asked, failedPages === 0 ? 0 : holdAfter(failedPages))
    if (wait > 0) kv.put('hold', { failedPages, until: Date.now() + wait } satisfies Hold)
    else if (before) kv.delete('hold')
  }

  #remember({ tenantId, webhookId }: WebhookRef): void {
    const { kv } = this.ctx.storage
    if (kv.get('ref') === undefined) kv.put('ref', { tenantId, webhookId })
  }

  /** Sets the alarm for the next thing to do: a delivery, or forgetting old ones. */
  async #rearm(): Promise<void> {
    const { storage } = this.ctx
    const deliveries = openDeliveryStorage(storage)
    const due = deliveries.nextDue()
    const held = storage.kv.get<Hold>('hold')?.until ?? 0
    const prune = deliveries.nextPrune()
    const times = [due === null ? null : Math.max(due, held), prune].filter((at) => at !== null)
    if (times.length > 0) await this.#armBy(Math.min(...times))
  }

  async #armBy(at: number): Promise<void> {
    const planned = await this.ctx.storage.getAlarm()
    if (planned === null || planned > at) await this.ctx.storage.setAlarm(at)
  }
}
