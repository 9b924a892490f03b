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

/**
 * Whether the device's number can be a topic level (src/protocol/README.md#topics): its shape fits, and no other device
 * of its bridge has it.
 */
export const numberIsTopic = (d = 'd', p = 'p') =>
  `(length(${d}.number) <= 64 AND ${d}.number NOT GLOB '*[^A-Za-z0-9_-]*' AND NOT EXISTS (
     SELECT 1 FROM devices d2 JOIN products p2 ON p2.id = d2.product_id
     WHERE d2.number = ${d}.number AND d2.id <> ${d}.id AND p2.bridge = ${p}.bridge
       AND ${hubOf('p2')} = ${hubOf(p)}))`
