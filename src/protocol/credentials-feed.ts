import { createHash } from 'node:crypto'
import { z } from 'zod'
import { TOPIC_NAME } from './device.ts'

/**
 * The feed of credentials, `GET /bridge/v1/credentials?after=&limit=`: what each end says of it. Pure, shared with the
 * bridge.
 */

export const MAX_FEED_ITEMS = 2_000
export const MAX_FEED_CURSOR_LENGTH = 128

/** SHA-256 in base64url. */
const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/)

const feedItem = z.object({
  /** `credentialKey` of the username. */
  key: digest,
  /** Of Basic credentials, as it is stored; null: the username is a token, and comes without a password. */
  passwordHash: z.string().max(256).nullable(),
  /** Null: it cannot be a topic level. Whether another device of the bridge has it too is for the bridge to see. */
  number: z.string().regex(TOPIC_NAME).nullable(),
  /** `gone`: disabled, deleted, renamed or no longer in the bridge's scope; perhaps never in it. */
  state: z.enum(['enabled', 'gone']),
})

export const feedPage = z.object({
  /** The same for a bridge key as long as that lives. */
  salt: digest,
  items: z.array(feedItem).max(MAX_FEED_ITEMS),
  /** Where the next page begins. */
  cursor: z.string().max(MAX_FEED_CURSOR_LENGTH),
  /** There is a next page now. */
  more: z.boolean(),
  /** Forget what came before: with this page it begins anew. What is not told until `more` is false, is gone. */
  reset: z.boolean(),
})

export type FeedItem = z.infer<typeof feedItem>
export type FeedPage = z.infer<typeof feedPage>

/** How the feed names a username: base64url of SHA-256 of `salt` and username, so that the file tells no tokens. */
export const credentialKey = (salt: string, username: string): string =>
  createHash('sha256').update(salt).update(username).digest('base64url')
