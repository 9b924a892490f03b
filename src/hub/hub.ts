import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { repeating } from '../common/retries.ts'
import type { BridgeHub } from './hub-object.ts'
import { hubOf } from './scope.ts'

/** The name of a bridge's hub: `{tenant or *}/{bridge}` (src/http/README.md#keys). */
export const hubName = (tenantId: string | null, bridge: string) => `${tenantId ?? '*'}/${bridge}`

/** Calls that change nothing twice; ids that `prepare` returned to nobody are only skipped. */
const REPEATABLE = [
  'prepare',
  'revoke',
  'drop',
  'handedOver',
  'pendingRejections',
  'status',
] as const satisfies (keyof BridgeHub)[]

/** The hub of a name that `hubName` made. */
export const hubStub = (env: Env, name: string): DurableObjectStub<BridgeHub> =>
  repeating(() => env.BRIDGE_HUB.getByName(name) as unknown as DurableObjectStub<BridgeHub>, REPEATABLE)

/** The name of the hub that serves a product; null if the tenant has no such product (any more). */
export async function hubOfProduct(
  env: Env,
  { tenantId, productId }: { tenantId: string; productId: string },
): Promise<string | null> {
  return env.DB.prepare(`SELECT ${hubOf()} AS name FROM products p WHERE p.id = ?1 AND p.tenant_id = ?2`)
    .bind(productId, tenantId)
    .first<string>('name')
}

/**
 * Ends the open sessions of a username on the product's bridge, if its broker can: the token was rotated, or the device
 * disabled or deleted. Best effort, since each message is identified afresh.
 */
export async function dropSessions(
  env: Env,
  device: { tenantId: string; productId: string; accessToken: string },
): Promise<void> {
  const hub = await hubOfProduct(env, device)
  if (hub !== null) await hubStub(env, hub).drop(device.accessToken)
}

/**
 * Ends what the bridges with a revoked key have open at their hub. Best effort: a hub that could not be told finds out
 * by itself within a minute.
 */
export async function endConnections(
  env: Env,
  key: { id: string; tenantId: string | null; bridge: string | null },
): Promise<void> {
  if (key.bridge === null) return
  try {
    await hubStub(env, hubName(key.tenantId, key.bridge)).revoke(key.id)
  } catch (error) {
    logError('hub.not_revoked', { key: key.id, ...errorFields(error) })
  }
}
