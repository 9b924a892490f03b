/**
 * Which bridge a device belongs to, in one place, as fragments of SQL for D1: letting a device in, receiving its
 * messages and sending it notices must agree. `d` and `p` are the aliases of the device and of its product
 * (`JOIN products p ON p.id = d.product_id`). No fragment takes text from a client: values go in as parameters.
 */

/**
 * The name of the product's hub, `{tenant or *}/{bridge}` as `hubName` makes it: the tenant's own bridge if there is
 * one, else the installation's (src/http/README.md#keys). A bridge exists while a key for it is not revoked.
 */
export const hubOf = (p = 'p') =>
  `(CASE WHEN EXISTS (SELECT 1 FROM api_keys k WHERE k.role = 'bridge' AND k.bridge = ${p}.bridge
     AND k.tenant_id = ${p}.tenant_id AND k.revoked_at IS NULL) THEN ${p}.tenant_id ELSE '*' END || '/' || ${p}.bridge)`

/**
 * Whether the product's devices are in the scope of a bridge key. `hub` is the placeholder (`'?1'`) of
 * `hubName(principal.tenantId, principal.bridge)`. To the bridge a device outside is an unknown device.
 */
export const inScopeOf = (hub: string, p = 'p') => `(${hubOf(p)} = ${hub})`

/** Whether a number has the shape of a topic level (`TOPIC_NAME`). `number` is a column or a placeholder. */
const hasTopicShape = (number: string) =>
  `(length(${number}) BETWEEN 1 AND 64 AND ${number} NOT GLOB '*[^A-Za-z0-9_-]*')`

/**
 * Since when the device is on its hub, in ms: since it was made or, if that was later, since the tenant's own bridge of
 * that name went. What else could bring it there (a move, another bridge for its product) is refused if its number is taken.
 */
export const onHubSince = (d = 'd', p = 'p') =>
  `max(${d}.created_at, coalesce((SELECT max(k.revoked_at) FROM api_keys k WHERE k.role = 'bridge'
     AND k.bridge = ${p}.bridge AND k.tenant_id = ${p}.tenant_id), 0))`

/**
 * Whether the device's number is its topic level (src/protocol/README.md#topics): its shape fits, and no other device
 * with that number was on its hub before. So no later device ever shuts an earlier one out.
 */
export const numberIsTopic = (d = 'd', p = 'p') =>
  `(${hasTopicShape(`${d}.number`)} AND NOT EXISTS (
     SELECT 1 FROM devices d2 JOIN products p2 ON p2.id = d2.product_id
     WHERE d2.number = ${d}.number AND d2.id <> ${d}.id AND p2.bridge = ${p}.bridge
       AND (${onHubSince('d2', 'p2')}, d2.id) < (${onHubSince(d, p)}, ${d}.id)
       AND ${hubOf('p2')} = ${hubOf(p)}))`

/**
 * Whether another tenant's device has this number as its topic on the shared bridge of `p`, if there is or was such a
 * bridge (its key may be about to be changed): a device with the same number must not come there. A tenant's own devices may share one, since it is unique only in its
 * product.
 */
export const numberIsTaken = (number: string, p = 'p') =>
  `(${hasTopicShape(number)}
     AND EXISTS (SELECT 1 FROM api_keys k WHERE k.role = 'bridge' AND k.bridge = ${p}.bridge
       AND k.tenant_id IS NULL)
     AND EXISTS (
       SELECT 1 FROM devices d2 JOIN products p2 ON p2.id = d2.product_id
       WHERE d2.number = ${number} AND p2.bridge = ${p}.bridge AND p2.tenant_id <> ${p}.tenant_id
         AND ${hubOf('p2')} = ${hubOf(p)}))`
