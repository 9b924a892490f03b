import type { Env } from '../common/env.ts'
import type { BridgeHub } from './hub-object.ts'
import { hubOf } from './scope.ts'

/** The hub of a bridge: `{tenant or *}/{bridge}`. */
export const hubName = (tenantId: string | null, bridge: string) => `${tenantId ?? '*'}/${bridge}`

/** A bridge's hub: its name is `hubName`'s. */
export const hubStub = (env: Env, name: string) =>
  env.BRIDGE_HUB.getByName(name) as unknown as DurableObjectStub<BridgeHub>

/** The hub that serves a product; null where the tenant has no such product (any more). */
export async function hubOfProduct(
  env: Env,
  { tenantId, productId }: { tenantId: string; productId: string },
): Promise<string | null> {
  return env.DB.prepare(`SELECT ${hubOf()} AS name FROM products p WHERE p.id = ?1 AND p.tenant_id = ?2`)
    .bind(productId, tenantId)
    .first<string>('name')
}

/**
 * Ends the open sessions of a username on the product's bridge, where its broker allows: the token was
 * rotated, the device disabled or deleted. Best effort: what identifies a message is looked up for each one.
 */
export async function dropSessions(
  env: Env,
  device: { tenantId: string; productId: string; accessToken: string },
): Promise<void> {
  const hub = await hubOfProduct(env, device)
  if (hub !== null) await hubStub(env, hub).drop(device.accessToken)
}
