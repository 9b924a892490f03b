import type { Context } from 'hono'
import { getCookie } from 'hono/cookie'
import { verifyWithJwks } from 'hono/jwt'
import type { HonoJsonWebKey } from 'hono/utils/jwt/jws'
import { z } from 'zod'
import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import type { AppEnv, Principal } from '../http/principal.ts'

// Sign-in by Cloudflare Access: its JWT, verified against the team's keys, says who the person is. ACCESS_GRANTS says
// which role that person has in which tenant.
// https://developers.cloudflare.com/cloudflare-one/identity/authorization-cookie/validating-json/

const HEADER = 'cf-access-jwt-assertion'
const COOKIE = 'CF_Authorization'
const MAX_TOKEN_LENGTH = 8192
const KEYS_LIFETIME_MS = 3600_000
/** The team's keys are fetched again at most this often, whatever key ids the tokens name. */
const KEYS_RETRY_MS = 60_000
const KEYS_WITHIN_MS = 5_000

/** A grant is for one address or for everybody of a domain (`@example.com`). The first grant that fits counts. */
const grants = z.array(
  z.object({
    who: z.string().regex(/^[^@\s]*@[^@\s]+$/),
    tenantId: z.string().min(1),
    role: z.enum(['viewer', 'operator', 'admin']),
  }),
)
type Grant = z.infer<typeof grants>[number]

export interface AccessSettings {
  /** `https://<team>.cloudflareaccess.com` */
  team: string
  /** The application's audience tag. */
  audience: string
  grants: Grant[]
}

/** Null if sign-in by Access is not set up, or not wholly: nobody can use it then. */
export function accessSettings(env: Env): AccessSettings | null {
  const { ACCESS_TEAM: team, ACCESS_AUDIENCE: audience, ACCESS_GRANTS: text } = env
  if (!team || !audience || !text) return null
  const parsed = grants.safeParse(toJson(text))
  if (parsed.success && URL.canParse(team))
    return { team: new URL(team).origin, audience, grants: parsed.data }
  logError('access.settings_invalid')
  return null
}

function toJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The person whom Access identified; undefined without a valid token, or without a grant for that person. */
export async function principalOfAccess<E extends AppEnv>(
  c: Context<E>,
  now: number,
): Promise<Principal | undefined> {
  const settings = accessSettings(c.env)
  const token = c.req.header(HEADER) ?? getCookie(c, COOKIE)
  if (!settings || !token || token.length > MAX_TOKEN_LENGTH) return undefined
  const email = await emailOf(token, settings, now)
  const grant = email === undefined ? undefined : grantOf(email, settings.grants)
  if (email === undefined || !grant) return undefined
  const { role, tenantId } = grant
  return { keyId: `access:${email}`, keyName: email, role, tenantId, bridge: null }
}

/** An address with several `@` has no grant: readers do not agree on where its domain begins. */
export const grantOf = (email: string, all: Grant[]): Grant | undefined => {
  const address = email.toLowerCase()
  const [, domain] = /^[^@\s]+(@[^@\s]+)$/.exec(address) ?? []
  if (domain === undefined) return undefined
  return all.find(({ who }) => [address, domain].includes(who.toLowerCase()))
}

async function emailOf(
  token: string,
  { team, audience }: AccessSettings,
  now: number,
): Promise<string | undefined> {
  const keys = await keysOf(team, now)
  return (await emailBy(keys, token, team, audience)) ?? retried(token, team, audience, now)
}

/** Tries once more with fresh keys: the team's keys are rotated every six weeks. */
async function retried(token: string, team: string, audience: string, now: number) {
  const kept = known.get(team)
  if (!kept || now - kept.askedAt < KEYS_RETRY_MS) return undefined
  return emailBy(await askForKeys(team, now), token, team, audience)
}

async function emailBy(keys: HonoJsonWebKey[], token: string, team: string, audience: string) {
  try {
    const verification = { iss: team, aud: audience }
    const claims = await verifyWithJwks(token, { keys, allowedAlgorithms: ['RS256'], verification })
    // A service token has no email address, and a token without `exp` would be valid for ever.
    return typeof claims.email === 'string' && typeof claims.exp === 'number' ? claims.email : undefined
  } catch {
    return undefined
  }
}

const known = new Map<string, { keys: HonoJsonWebKey[]; askedAt: number }>()

async function keysOf(team: string, now: number): Promise<HonoJsonWebKey[]> {
  const kept = known.get(team)
  if (!kept) return askForKeys(team, now)
  const lifetime = kept.keys.length > 0 ? KEYS_LIFETIME_MS : KEYS_RETRY_MS
  return now - kept.askedAt < lifetime ? kept.keys : askForKeys(team, now)
}

const answer = z.object({ keys: z.array(z.looseObject({ kid: z.string(), kty: z.string() })) })

/** Fetches the team's keys. If that fails or takes too long, the keys known so far still count. */
async function askForKeys(team: string, now: number): Promise<HonoJsonWebKey[]> {
  const before = known.get(team)?.keys ?? []
  known.set(team, { keys: before, askedAt: now })
  try {
    const response = await fetch(`${team}/cdn-cgi/access/certs`, {
      redirect: 'manual',
      signal: AbortSignal.timeout(KEYS_WITHIN_MS),
    })
    const { keys } = answer.parse(await response.json())
    known.set(team, { keys: keys as HonoJsonWebKey[], askedAt: now })
    return keys as HonoJsonWebKey[]
  } catch (error) {
    logError('access.keys_unavailable', errorFields(error))
    return before
  }
}
