import { and, asc, eq, gt, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { webhooks } from '../db/schema.ts'
import { MAX_WEBHOOKS, type Webhook } from './webhook.ts'

/** Names one webhook of one tenant. */
export interface WebhookRef {
  tenantId: string
  webhookId: string
}

const isThe = ({ tenantId, webhookId }: WebhookRef) =>
  and(eq(webhooks.id, webhookId), eq(webhooks.tenantId, tenantId))

/** False if the tenant has as many as it may have. One statement, so that no other insert comes in between. */
export async function insertWebhook(db: Db, webhook: Webhook): Promise<boolean> {
  const written = await db.run(sql`
    INSERT INTO webhooks (id, tenant_id, url, events, secret, created_at)
    SELECT ${webhook.id}, ${webhook.tenantId}, ${webhook.url}, ${JSON.stringify(webhook.events)},
      ${webhook.secret}, ${webhook.createdAt}
    WHERE (SELECT count(*) FROM webhooks WHERE tenant_id = ${webhook.tenantId} AND id <> ${webhook.id}) < ${MAX_WEBHOOKS}
    ON CONFLICT (id) DO UPDATE SET secret = excluded.secret`)
  return written.meta.changes > 0
}

export const findWebhook = async (db: Db, ref: WebhookRef): Promise<Webhook | undefined> =>
  (await db.select().from(webhooks).where(isThe(ref)).get()) as Webhook | undefined

/** One row more than `limit`, for `page`. */
export const listWebhooks = async (
  db: Db,
  tenantId: string,
  limit: number,
  cursor = '',
): Promise<Webhook[]> =>
  (await db
    .select()
    .from(webhooks)
    .where(and(eq(webhooks.tenantId, tenantId), gt(webhooks.id, cursor)))
    .orderBy(asc(webhooks.id))
    .limit(limit + 1)) as Webhook[]

/** The events that each of the tenant's webhooks asks for; `MAX_WEBHOOKS` rows at most. */
export const findSubscriptions = (db: Db, tenantId: string): Promise<{ id: string; events: string[] }[]> =>
  db
    .select({ id: webhooks.id, events: webhooks.events })
    .from(webhooks)
    .where(eq(webhooks.tenantId, tenantId))

/** The webhook as it is after the changes; undefined if the tenant has none of this id. */
export async function updateWebhook(
  db: Db,
  ref: WebhookRef,
  changes: Partial<Pick<Webhook, 'url' | 'events' | 'secret'>>,
): Promise<Webhook | undefined> {
  if (Object.values(changes).every((value) => value === undefined)) return findWebhook(db, ref)
  return (await db.update(webhooks).set(changes).where(isThe(ref)).returning().get()) as Webhook | undefined
}

/** False if the tenant has none of this id. */
export async function deleteWebhook(db: Db, ref: WebhookRef): Promise<boolean> {
  const deleted = await db.delete(webhooks).where(isThe(ref)).returning({ id: webhooks.id })
  return deleted.length > 0
}
