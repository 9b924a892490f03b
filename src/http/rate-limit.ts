import type { Context } from 'hono'
import { tooMany } from '../common/errors.ts'
import { retried } from '../common/retries.ts'
import { limitKey } from '../protocol/address.ts'
import { createTokenBuckets } from '../protocol/token-bucket.ts'
import type { AppEnv } from './principal.ts'

export const LIMIT_PERIOD_SECONDS = 60

/** Counts this against the key's limit. Throws a 429 beyond it. */
async function count(limit: RateLimit, key: string): Promise<void> {
  if (!(await isWithin(limit, key))) throw tooMany(LIMIT_PERIOD_SECONDS)
}

/** Limits an address before any other work, so that a stranger costs nothing more. Throws a 429 beyond the limit. */
export const limitAddress = <E extends AppEnv>(c: Context<E>): Promise<void> =>
  count(c.env.DEVICE_LIMIT, limitKeyOf(c))

/** Limits what one device says over HTTPS, once it is authenticated. Throws a 429 beyond the limit. */
export const limitDevice = (c: Context<AppEnv>, deviceId: string): Promise<void> =>
  count(c.env.DEVICE_SHARE_LIMIT, deviceId)

/** Limits the requests of one download link, not those of an address: a whole site may be behind one. Throws a 429. */
export const limitDownload = (c: Context<AppEnv>, link: string): Promise<void> =>
  count(c.env.DOWNLOAD_LIMIT, link)

/** Limits the wrong download links of an address. Throws a 429 beyond the limit. */
export const limitWrongLinks = (c: Context<AppEnv>): Promise<void> =>
  count(c.env.WRONG_LINK_LIMIT, limitKeyOf(c))

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
 * Wrong passwords of one address for one username. Kept by each isolate for itself, since a limit that all of them share
 * cannot be looked at without counting, and a right password must not count.
 */
const guesses = createTokenBuckets({ perMinute: 10, atOnce: 10 }, Date.now)

/**
 * Runs `verify` unless this address has guessed wrong passwords of this username too often. Returns undefined then:
 * nothing was verified. Other devices behind the address are not concerned.
 */
export async function verifyGuess(
  address: string,
  username: string,
  verify: () => Promise<boolean>,
): Promise<boolean | undefined> {
  const key = `${limitKey(address)} ${username}`
  // Counts as wrong until it is verified, so that simultaneous guesses do not all pass.
  if (!guesses.take(key)) return undefined
  const isRight = await verify()
  if (isRight) guesses.giveBack(key)
  return isRight
}
