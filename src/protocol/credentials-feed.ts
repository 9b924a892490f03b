import { createHash } from 'node:crypto'
import { z } from 'zod'
import { TOPIC_NAME } from './device.ts'

/**
 * The credentials feed, `GET /bridge/v1/credentials?after=&limit=`, as both ends read and write it. Pure, and shared
 * with the bridge.
 */

export const MAX_FEED_ITEMS = 2_000
export const MAX_FEED_CURSOR_LENGTH = 128

/** SHA-256 in base64url. */
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/)

const feedItem = z.object({
  /** `credentialKey` of the username. */
  key: digest,
  /** The stored hash of Basic credentials; null if the username is a token, which comes without a password. */
  passwordHash: z.string().max(256).nullable(),
  /**
   * Null if it is not this device's topic level. Workers of earlier releases left it to the bridge to see whether another
   * of its devices has it too.
   */
  number: z.string().regex(TOPIC_NAME).nullable(),
  /** `gone`: disabled, deleted, renamed, or not in the bridge's scope (any more). */
  state: z.enum(['enabled', 'gone']),
})

export const feedPage = z.object({
  /** Stays the same as long as the bridge key lives. */
  salt: digest,
  items: z.array(feedItem).max(MAX_FEED_ITEMS),
  /** Where the next page begins. */
  cursor: z.string().max(MAX_FEED_CURSOR_LENGTH),
  /** True if there is a next page now. */
  more: z.boolean(),
  /** The feed begins anew with this page: a device that is not listed before `more` is false is gone. */
  reset: z.boolean(),
})

export type FeedItem = z.infer<typeof feedItem>
export type FeedPage = z.infer<typeof feedPage>

/** A username in the feed: base64url of SHA-256 of `salt` and username, so that the bridge's file holds no tokens. */
export const credentialKey = (salt: string, username: string): string =>
  createHash('sha256').update(salt).update(username).digest('base64url')
