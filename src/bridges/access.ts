import { z } from 'zod'
import type { Principal } from '../http/principal.ts'
import { verifyGuess } from '../http/rate-limit.ts'
import { hubName } from '../hub/hub.ts'
import { inScopeOf, numberIsTopic } from '../hub/scope.ts'
import { parseDownlinkTopic, TOPIC_NAME, UPLINK_TOPIC_NAMES } from '../protocol/device.ts'
import { verifyPassword } from '../protocol/passwords.ts'

const username = z.string().regex(TOPIC_NAME)

/** The device's network address, if the broker tells it. */
const peerhost = z.string().optional().catch(undefined)

/** Other fields that brokers send are ignored. */
export const authQuestion = z.object({ username, password: z.string().nullish(), peerhost })
export const aclQuestion = z.object({
  username,
  topic: z.string(),
  action: z.enum(['publish', 'subscribe']),
  peerhost,
})

interface Subject {
  number: string
  passwordHash: string | null
  numberIsTopic: number
}

/** Whether this device may connect (src/protocol/README.md#identity). A token has no password, a username its own. */
export async function mayConnect(
  db: D1Database,
  bridge: Principal,
  { username, password, peerhost }: z.infer<typeof authQuestion>,
): Promise<boolean> {
  const device = await findSubject(db, bridge, username)
  if (!device) return false
  const given = password ?? ''
  if (device.passwordHash === null) return given === ''
  const { passwordHash } = device
  if (given === '') return false
  const verify = () => verifyPassword(given, passwordHash)
  // Without an address, anybody could use up the tries of any device.
  return peerhost ? (await verifyGuess(peerhost, username, verify)) === true : verify()
}

/**
 * Whether this device may use the topic: it may publish on the uplink topics and subscribe to its own downlink topics.
 * EMQX asks before it rewrites a topic, so the rewritten topics (bridge/identity.ts) need no permission, and no device
 * has any.
 */
export async function mayUse(
  db: D1Database,
  bridge: Principal,
  { username, topic, action }: z.infer<typeof aclQuestion>,
): Promise<boolean> {
  if (action === 'publish') {
    return UPLINK_TOPIC_NAMES.includes(topic) && (await findSubject(db, bridge, username)) !== null
  }
  const downlink = parseDownlinkTopic(topic)
  if (!downlink) return false
  if (downlink.family === 'device' && downlink.name !== username) return false
  const device = await findSubject(db, bridge, username)
  if (!device) return false
  return downlink.family === 'device' || (downlink.name === device.number && device.numberIsTopic === 1)
}

/** The enabled device of this name in the bridge's scope. */
const findSubject = (db: D1Database, { tenantId, bridge }: Principal, username: string) =>
  db
    .prepare(
      `SELECT d.number, d.password_hash AS passwordHash, ${numberIsTopic()} AS numberIsTopic
       FROM devices d JOIN products p ON p.id = d.product_id
       WHERE d.access_token = ?1 AND d.enabled = 1 AND ${inScopeOf('?2')}`,
    )
    .bind(username, hubName(tenantId, bridge ?? ''))
    .first<Subject>()
