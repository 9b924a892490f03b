import { setTimeout as sleep } from 'node:timers/promises'
import { limitKey } from '../../src/protocol/address.ts'
import { createTokenBuckets } from '../../src/protocol/token-bucket.ts'

/** One try to connect with credentials that are not known to be right. */
export interface Attempt {
  /** The device's network address; empty if the broker does not tell it. */
  address: string
  username: string
  /** The same username and password were verified not long ago. */
  isRemembered: boolean
  /** False: it is refused if it cannot be verified at once. */
  mayWait: boolean
  isGone(): boolean
}

/** Slows down whoever guesses passwords or tokens, without shutting out devices behind the same address. */
export interface Guesses {
  /** Runs `verify`, perhaps later. Returns 'unavailable' if too many wait already: nothing was verified then. */
  verify<T>(attempt: Attempt, verify: () => Promise<T>): Promise<T | 'unavailable'>
  counts: { guesses: number }
}

/** Wrong passwords of one address for one username. */
const PER_USERNAME = { perMinute: 10, atOnce: 5 }
/** Wrong credentials of one address, whatever the username. */
const PER_ADDRESS = { perMinute: 600, atOnce: 50 }
/** Devices give up a CONNECT that is not answered for long. */
const WAIT_AT_MOST_MS = 10_000

/**
 * Only what turns out to be wrong counts, by address and username: other devices behind the address are let in at once,
 * and the right password for this username after a wait. An address with many wrong ones is slowed down as a whole,
 * except for credentials that were right before.
 */
export function createGuesses(now: () => number = () => performance.now()): Guesses {
  const byUsername = createTokenBuckets(PER_USERNAME, now)
  const byAddress = createTokenBuckets(PER_ADDRESS, now)
  const counts = { guesses: 0 }

  return {
    counts,
    async verify({ address, username, isRemembered, mayWait, isGone }, verify) {
      if (address === '') return verify() // else anybody could slow down any device
      const withinMs = mayWait ? WAIT_AT_MOST_MS : 0
      const place = limitKey(address)
      const pair = `${place} ${username}`
      // Counts as wrong until it is verified, so that simultaneous tries do not all pass.
      const wait = byUsername.reserve(pair, withinMs)
      if (wait === undefined) {
        counts.guesses++
        return 'unavailable'
      }
      const isSlowed = !isRemembered && byAddress.waitMs(place) > 0
      const addressWait = isSlowed ? byAddress.reserve(place, withinMs) : 0
      if (addressWait === undefined) {
        byUsername.giveBack(pair)
        counts.guesses++
        return 'unavailable'
      }
      const longest = Math.max(wait, addressWait)
      if (longest > 0) await sleep(longest)
      const decision = isGone() ? 'unavailable' : await verify()
      if (decision === 'deny') {
        if (!isSlowed) byAddress.reserve(place, WAIT_AT_MOST_MS)
      } else {
        byUsername.giveBack(pair)
        if (isSlowed) byAddress.giveBack(place)
      }
      return decision
    },
  }
}
