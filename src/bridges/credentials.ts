import { createHash, createHmac } from 'node:crypto'
import type { Principal } from '../http/principal.ts'
import { hubName } from '../hub/hub.ts'
import { inScopeOf, numberIsTopic } from '../hub/scope.ts'
import { credentialKey, type FeedItem, type FeedPage } from '../protocol/credentials-feed.ts'

/** Where a reader of the feed is. */
interface Position {
  /** The last change that it read. */
  seq: number
  /** The newest change when it began. It never heard of a username that had gone by then. */
  begunAt: number
}

interface Change {
  seq: number
  username: string
  isTheirs: number
  inScope: number
  passwordHash: string | null
  number: string | null
}

/** `?1` is the hub, `?2` the bridge, `?3` the tenant if the bridge serves only one. */
const scopeSql = (isOneTenant: boolean) =>
  `SELECT p.id, p.tenant_id, p.bridge FROM products p WHERE p.bridge = ?2 ${isOneTenant ? 'AND p.tenant_id = ?3' : ''} AND ${inScopeOf('?1')}`

/**
 * `isTheirs`: the username belongs, or belonged before, to a tenant that the bridge serves; only these are sent. A
 * device that left the scope is among them, since other products in the scope begin the feed anew.
 */
const changesSql = (isOneTenant: boolean) => `
  WITH scope AS MATERIALIZED (${scopeSql(isOneTenant)}),
    theirs AS MATERIALIZED (SELECT DISTINCT tenant_id FROM scope)
  SELECT c.seq, c.access_token AS username, p.id IS NOT NULL AS inScope,
    (coalesce(d.tenant_id, c.tenant_id) IN theirs OR c.former_tenant_id IN theirs) IS TRUE AS isTheirs,
    iif(p.id IS NOT NULL, d.password_hash, NULL) AS passwordHash,
    CASE WHEN p.id IS NOT NULL AND ${numberIsTopic()} THEN d.number END AS number
  FROM (SELECT seq, access_token, tenant_id, former_tenant_id FROM credential_changes WHERE seq > ?4 ORDER BY seq LIMIT ?5) c
  LEFT JOIN devices d ON d.access_token = c.access_token
  LEFT JOIN scope p ON p.id = d.product_id AND d.enabled = 1
  ORDER BY c.seq`

/**
 * One page of what changed for a bridge since `after`, a cursor of this feed; at most `limit` changes are looked at.
 * Without a valid cursor, or if other products are in the bridge's scope than when it was made, the page begins from
 * the start (`reset`). What changes while a reader is under way comes on a later page.
 */
export async function readCredentials(
  db: D1Database,
  bridge: Principal,
  after: string | undefined,
  limit: number,
): Promise<FeedPage> {
  const name = bridge.bridge ?? ''
  const scope = [hubName(bridge.tenantId, name), name, bridge.tenantId] as const
  const isOneTenant = bridge.tenantId !== null
  const [keys, products, newest] = await db.batch([
    db.prepare('SELECT hash FROM api_keys WHERE id = ?1').bind(bridge.keyId),
    db.prepare(`${scopeSql(isOneTenant)} ORDER BY p.id`).bind(...(isOneTenant ? scope : scope.slice(0, 2))),
    db.prepare('SELECT coalesce(max(seq), 0) AS seq FROM credential_changes'),
  ])
  const salt = saltOf(bridge.keyId, (keys!.results[0] as { hash: string }).hash)
  const digest = scopeDigest(salt, products!.results as { id: string }[])
  const newestSeq = (newest!.results[0] as { seq: number }).seq
  const known = readCursor(after, digest)
  // A database that was restored to an earlier state gives the same numbers a second time.
  const isLost = known === undefined || known.seq > newestSeq
  const from = isLost ? { seq: 0, begunAt: newestSeq } : known
  const { results: changes } = await db
    .prepare(changesSql(isOneTenant))
    .bind(...scope, from.seq, limit)
    .all<Change>()
  const last = changes.at(-1)?.seq ?? from.seq
  return {
    salt,
    items: changes
      .filter(({ seq, inScope, isTheirs }) => inScope === 1 || (isTheirs === 1 && seq > from.begunAt))
      .map((change) => toItem(salt, change)),
    cursor: `${last}.${from.begunAt}.${digest}`,
    more: changes.length === limit && last < newestSeq,
    reset: isLost,
  }
}

const toItem = (salt: string, { username, inScope, passwordHash, number }: Change): FeedItem => ({
  key: credentialKey(salt, username),
  passwordHash,
  number,
  state: inScope === 1 ? 'enabled' : 'gone',
})

/** Each key has its own salt, so that a feed that leaked under one key is of no use under another. */
const saltOf = (keyId: string, keyHash: string): string =>
  createHmac('sha256', keyHash).update(`credentials ${keyId}`).digest('base64url')

/** Bridges read the feed anew when this changes. In the first feed, what was gone could not be told by its tenant. */
const FEED = '2'

/** Another value for each key and each set of products in its scope. */
const scopeDigest = (salt: string, products: readonly { id: string }[]): string =>
  createHash('sha256')
    .update([FEED, salt, ...products.map(({ id }) => id)].join('\n'))
    .digest('base64url')

function readCursor(cursor: string | undefined, digest: string): Position | undefined {
  const [, seq, begunAt, scope] = /^(\d{1,15})\.(\d{1,15})\.([\w-]{43})$/.exec(cursor ?? '') ?? []
  return scope === digest ? { seq: Number(seq), begunAt: Number(begunAt) } : undefined
}
