import type { Env } from '../common/env.ts'
import { publishedSecrets, type SecretName } from '../common/published-secrets.ts'
import { isLoopbackUrl } from '../protocol/loopback.ts'
import { inEnglish, type Reason, reason } from '../reasons/reason.ts'
import { createLinkCache, type DownloadLink } from './links.ts'
import { importTokenKey, makeToken, TOKEN_LENGTH, type TokenKey } from './token.ts'

/** `r2`: presigned links, straight from the bucket. `worker`: short ones through the Worker, which a task can stop. */
export type DownloadsMode = 'r2' | 'worker'

export interface LinkRequest {
  mode: DownloadsMode
  taskId: string
  deviceId: string
  packageIndex: number
  storageKey: string
  ttlSeconds: number
  /** Milliseconds since 1970. */
  now: number
}

export type Linker = (request: LinkRequest) => Promise<DownloadLink>

/** Some devices cut off a longer URL. */
const MAX_URL_LENGTH = 127
const PATH = '/d/'
const MAX_BASE_LENGTH = MAX_URL_LENGTH - PATH.length - TOKEN_LENGTH

/** The product's own setting, else the installation's. Without an endpoint of the bucket it is always the Worker. */
export const downloadsMode = (env: Env, ofProduct: DownloadsMode | null): DownloadsMode =>
  env.R2_S3_ENDPOINT ? (ofProduct ?? (env.DOWNLOADS === 'worker' ? 'worker' : 'r2')) : 'worker'

/** Why this installation cannot make links of this kind; null if it can. */
export const linksFault = (env: Env, mode: DownloadsMode): Reason | null =>
  mode === 'worker' ? workerLinksFault(env) : presignedLinksFault(env)

function presignedLinksFault(env: Env): Reason | null {
  const { R2_S3_ENDPOINT, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY } = env
  if (!R2_S3_ENDPOINT || !R2_ACCESS_KEY_ID || !R2_SECRET_ACCESS_KEY) return reason('no_bucket_token')
  return publishedFault(env, ['R2_ACCESS_KEY_ID', 'R2_SECRET_ACCESS_KEY'], R2_S3_ENDPOINT)
}

/** Links that lead beyond this machine are never signed with a secret that everybody knows. */
function publishedFault(env: Env, names: SecretName[], address: string): Reason | null {
  const name = publishedSecrets(env).find((published) => names.includes(published))
  return name === undefined || isLoopbackUrl(address) ? null : reason('published_secret', { name })
}

function workerLinksFault(env: Env): Reason | null {
  const { DOWNLOAD_SIGNING_KEY, PUBLIC_URL } = env
  if (!DOWNLOAD_SIGNING_KEY) return reason('no_signing_key')
  const { length } = baseOf(PUBLIC_URL)
  if (length === 0 || length > MAX_BASE_LENGTH) return reason('no_public_url', { maxLength: MAX_BASE_LENGTH })
  return publishedFault(env, ['DOWNLOAD_SIGNING_KEY'], baseOf(PUBLIC_URL))
}

const baseOf = (publicUrl = '') => publicUrl.replace(/\/+$/, '')

/** Makes the links of one task; presigned ones are shared by its devices. Throws if there is a `linksFault`. */
export function createLinker(env: Env): Linker {
  const presigned = createLinkCache()
  let key: Promise<TokenKey> | undefined
  return async ({ mode, taskId, deviceId, packageIndex, storageKey, ttlSeconds, now }) => {
    const fault = linksFault(env, mode)
    if (fault !== null) throw new Error(inEnglish(fault))
    if (mode === 'r2') return presigned(env, storageKey, ttlSeconds, now)
    key ??= downloadKey(env)
    const expiresAt = (Math.floor(now / 1000) + ttlSeconds) * 1000
    const token = await makeToken(await key, { taskId, deviceId, packageIndex, expiresAt })
    return { url: `${baseOf(env.PUBLIC_URL)}${PATH}${token}`, expiresAt }
  }
}

export async function downloadKey({ DOWNLOAD_SIGNING_KEY }: Env): Promise<TokenKey> {
  if (!DOWNLOAD_SIGNING_KEY) throw new Error('DOWNLOADS=worker needs the secret DOWNLOAD_SIGNING_KEY')
  return importTokenKey(DOWNLOAD_SIGNING_KEY)
}
