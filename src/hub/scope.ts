/**
 * Which bridge a device belongs to, in one place, as fragments of SQL for D1: whoever lets a device in, receives
 * its messages or sends it notices asks the same. `d` and `p` are the aliases of the device and of its product
 * (`JOIN products p ON p.id = d.product_id`). No fragment takes text from a client: values go in as parameters.
 */

/**
 * The name of the product's hub, `{tenant or *}/{bridge}` as `hubName` makes it: its tenant's own bridge where
 * there is one, else the installation's (API.md, Keys). A key that was not revoked makes a bridge exist.
 */
export const hubOf = (p = 'p') =>
  `(CASE WHEN EXISTS (SELECT 1 FROM api_keys k WHERE k.role = 'bridge' AND k.bridge = ${p}.bridge
     AND k.tenant_id = ${p}.tenant_id AND k.revoked_at IS NULL) THEN ${p}.tenant_id ELSE '*' END || '/' || ${p}.bridge)`

/**
 * Are the product's devices in the scope of a bridge key? `hub` is the placeholder (`'?1'`) of
 * `hubName(principal.tenantId, principal.bridge)`. A device outside is an unknown device to the bridge.
 */
export const inScopeOf = (hub: string, p = 'p') => `(${hubOf(p)} = ${hub})`

/** Can the device's number be a topic level: its shape fits and no other device of its bridge has it (PROTOCOL.md, 2)? */
export const numberIsTopic = (d = 'd', p = 'p') =>
  `(length(${d}.number) <= 64 AND ${d}.number NOT GLOB '*[^A-Za-z0-9_-]*' AND NOT EXISTS (
     SELECT 1 FROM devices d2 JOIN products p2 ON p2.id = d2.product_id
     WHERE d2.number = ${d}.number AND d2.id <> ${d}.id AND p2.bridge = ${p}.bridge
       AND ${hubOf('p2')} = ${hubOf(p)}))`
