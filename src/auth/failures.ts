import type { Context } from 'hono'
import { tooMany } from '../common/errors.ts'
import type { AppEnv } from '../http/principal.ts'
import { isWithin, LIMIT_PERIOD_SECONDS, limitKeyOf } from '../http/rate-limit.ts'

// Wrong keys are limited by address, before D1 is asked. Each isolate counts for itself, and the rate limit
// KEY_FAILURE_LIMIT counts what all isolates of a place see. Neither refuses a key that was right a while ago: a
// misconfigured neighbour behind the same address must not lock a bridge out.

/** The limit of KEY_FAILURE_LIMIT in `wrangler.toml`, too. */
const MAX_FAILURES = 100
/** The same wrong key once more guesses nothing: a client that was forgotten may say it this much more often. */
const REPEAT_WEIGHT = 0.1
const PERIOD_MS = LIMIT_PERIOD_SECONDS * 1000
const PROVEN_FOR_MS = 600_000
/** Addresses and keys that are remembered; the oldest make room. */
const MAX_REMEMBERED = 10_000

interface Tries {
  until: number
  failures: number
  /** Hashes of the keys that were wrong. */
  wrong: Set<string>
  /** Look-ups under way: what comes at once must not slip through before the first has failed. */
  pending: Map<unknown, Promise<void>>
}

/** By address. */
const tries = new Map<string, Tries>()
/** Hash of a key → until when it counts as proven, ms. */
const proven = new Map<string, number>()

/**
 * Calls `find` for the key of this hash, unless too many keys from the caller's address were wrong. Throws a 429 then.
 * Undefined is a wrong key.
 */
export async function limitFailures<T>(
  c: Context<AppEnv>,
  hash: string,
  now: number,
  find: () => Promise<T | undefined>,
): Promise<T | undefined> {
  if ((proven.get(hash) ?? 0) > now) return findProven(c, hash, now, find)
  const at = triesOf(limitKeyOf(c), now)
  // What is being looked up may be right: more of it waits.
  while (at.failures < MAX_FAILURES && at.failures + at.pending.size >= MAX_FAILURES) {
    await Promise.race(at.pending.values())
  }
  if (at.failures >= MAX_FAILURES) throw tooMany(LIMIT_PERIOD_SECONDS)
  const looking = Promise.withResolvers<void>()
  at.pending.set(looking, looking.promise)
  try {
    const found = await find()
    if (found === undefined) await countFailure(c, hash, now)
    else remember(proven, hash, now + PROVEN_FOR_MS)
    return found
  } finally {
    at.pending.delete(looking)
    looking.resolve()
  }
}

/** A key that was right a while ago is limited by nothing, but it may have been revoked since. */
async function findProven<T>(
  c: Context<AppEnv>,
  hash: string,
  now: number,
  find: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const found = await find()
  if (found !== undefined) {
    remember(proven, hash, now + PROVEN_FOR_MS)
    return found
  }
  proven.delete(hash)
  await countFailure(c, hash, now)
  return undefined
}

function triesOf(address: string, now: number): Tries {
  const known = tries.get(address)
  if (known && known.until > now) return known
  const fresh = {
    until: now + PERIOD_MS,
    failures: 0,
    wrong: new Set<string>(),
    pending: known?.pending ?? new Map(),
  }
  remember(tries, address, fresh)
  return fresh
}

async function countFailure(c: Context<AppEnv>, hash: string, now: number): Promise<void> {
  const address = limitKeyOf(c)
  const at = triesOf(address, now)
  if (at.wrong.has(hash)) {
    at.failures += REPEAT_WEIGHT
    return
  }
  at.wrong.add(hash)
  at.failures += 1
  if (!(await isWithin(c.env.KEY_FAILURE_LIMIT, address))) at.failures = MAX_FAILURES
}

function remember<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!)
}
