import type { Context } from 'hono'
import ipaddr from 'ipaddr.js'
import { tooMany } from '../common/errors.ts'
import { retried } from '../common/retries.ts'
import type { AppEnv } from './principal.ts'

export const LIMIT_PERIOD_SECONDS = 60
/** A broker may send any text as an address: this much of it makes the key. */
const MAX_ADDRESS_LENGTH = 64

/** Limits an address before any other work, so that a stranger costs nothing more. Throws a 429 beyond the limit. */
export async function limitAddress<E extends AppEnv>(c: Context<E>): Promise<void> {
  if (!(await isWithin(c.env.DEVICE_LIMIT, limitKeyOf(c)))) throw tooMany(LIMIT_PERIOD_SECONDS)
}

/** Whether there may be one more of this key. */
export async function isWithin(limiter: RateLimit, key: string): Promise<boolean> {
  const ask = async () => {
    try {
      return await limiter.limit({ key })
    } catch (cause) {
      // It fails only if the platform does; its errors have no texts to tell that by.
      throw Object.assign(new Error('a rate limiter failed', { cause }), { retryable: true })
    }
  }
  return (await retried(ask)).success
}

/** Whether this address may try once more to sign in to the console. */
export const maySignIn = <E extends AppEnv>(c: Context<E>): Promise<boolean> =>
  isWithin(c.env.SIGN_IN_LIMIT, limitKeyOf(c))

/** The caller's address as the key of a limit. */
export const limitKeyOf = <E extends AppEnv>(c: Context<E>): string =>
  limitKey(c.req.header('cf-connecting-ip') ?? 'local')

/** Whether the broker of this bridge may ask once more. */
export const bridgeMayAsk = (c: Context<AppEnv>): Promise<boolean> =>
  isWithin(c.env.BROKER_LIMIT, c.var.principal.keyId)

/** Whether this address may ask once more. There is no limit by username: anybody could lock a device out with it. */
export const peerMayAsk = (c: Context<AppEnv>, address: string): Promise<boolean> =>
  isWithin(c.env.BROKER_PEER_LIMIT, `${c.var.principal.keyId} ${limitKey(address)}`)

/**
 * One key for each customer of a network, however the address is written: an IPv6 customer has a /64 of addresses;
 * an IPv4 address may come mapped into IPv6.
 */
export function limitKey(address: string): string {
  if (!ipaddr.isValid(address)) return address.slice(0, MAX_ADDRESS_LENGTH)
  const parsed = ipaddr.process(address)
  if (parsed.kind() === 'ipv4') return parsed.toString()
  return (parsed as ipaddr.IPv6).parts
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')
}
