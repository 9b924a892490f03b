import { AwsV4Signer } from 'aws4fetch'
import type { Env } from '../common/env.ts'

/** A link is handed out again while at least this part of its life is left. */
const FRESH_PART = 0.9
const MAX_LINKS = 1000

/** The bucket's S3 endpoint, and the token that signs, which can only read this bucket. */
export type DownloadConfig = Pick<
  Env,
  'R2_S3_ENDPOINT' | 'R2_BUCKET' | 'R2_ACCESS_KEY_ID' | 'R2_SECRET_ACCESS_KEY'
>

/** A secret until it expires: it must not get into a log. */
export interface DownloadLink {
  url: string
  /** Milliseconds since 1970. */
  expiresAt: number
}

/**
 * A link by which anyone may GET the object until it expires (src/protocol/README.md#messages). `ttlSeconds` is 1
 * to 604,800, R2's own limits; `now` in milliseconds since 1970.
 */
export async function signDownload(
  config: DownloadConfig,
  storageKey: string,
  ttlSeconds: number,
  now: number,
): Promise<DownloadLink> {
  // The time in a signature is in whole seconds.
  const signedAt = Math.floor(now / 1000) * 1000
  const url = new URL(`${config.R2_S3_ENDPOINT.replace(/\/+$/, '')}/${config.R2_BUCKET}/${storageKey}`)
  url.searchParams.set('X-Amz-Expires', String(ttlSeconds))
  const signed = await new AwsV4Signer({
    method: 'GET',
    url: url.href,
    accessKeyId: config.R2_ACCESS_KEY_ID,
    secretAccessKey: config.R2_SECRET_ACCESS_KEY,
    service: 's3',
    region: 'auto',
    signQuery: true,
    datetime: amzDate(signedAt),
  }).sign()
  return { url: signed.url.href, expiresAt: signedAt + ttlSeconds * 1000 }
}

/** `20260102T030405Z` */
const amzDate = (ms: number) => new Date(ms).toISOString().replace(/[:-]|\.\d{3}/g, '')

/**
 * Links that the devices of a wave share, so that a wave needs one signature and not one per device. They live in the
 * memory of the object that sends; if there are too many, the oldest is dropped.
 */
export function createLinkCache() {
  const links = new Map<string, DownloadLink>()
  /** Like `signDownload`, but may return the link that another device has. */
  return async (
    config: DownloadConfig,
    storageKey: string,
    ttlSeconds: number,
    now: number,
  ): Promise<DownloadLink> => {
    const name = `${ttlSeconds} ${storageKey}`
    const known = links.get(name)
    if (known && known.expiresAt - now >= FRESH_PART * ttlSeconds * 1000) return known
    const link = await signDownload(config, storageKey, ttlSeconds, now)
    // A map iterates in the order of insertion: the newest link is last.
    links.delete(name)
    links.set(name, link)
    if (links.size > MAX_LINKS) links.delete(links.keys().next().value!)
    return link
  }
}
