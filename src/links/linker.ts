import type { Env } from '../common/env.ts'
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

/** The product's own setting, else the installation's. */
export const downloadsMode = (env: Env, ofProduct: DownloadsMode | null): DownloadsMode =>
  ofProduct ?? (env.DOWNLOADS === 'worker' ? 'worker' : 'r2')

/** Why this installation cannot make links through the Worker; null if it can. */
export function workerLinksFault({ DOWNLOAD_SIGNING_KEY, PUBLIC_URL }: Env): Reason | null {
  if (!DOWNLOAD_SIGNING_KEY) return reason('no_signing_key')
  const { length } = baseOf(PUBLIC_URL)
  if (length > 0 && length <= MAX_BASE_LENGTH) return null
  return reason('no_public_url', { maxLength: MAX_BASE_LENGTH })
}

const baseOf = (publicUrl = '') => publicUrl.replace(/\/+$/, '')

/** Makes the links of one task; presigned ones are shared by its devices. Throws if there is a `workerLinksFault`. */
export function createLinker(env: Env): Linker {
  const presigned = createLinkCache()
  let key: Promise<TokenKey> | undefined
  return async ({ mode, taskId, deviceId, packageIndex, storageKey, ttlSeconds, now }) => {
    if (mode === 'r2') return presigned(env, storageKey, ttlSeconds, now)
    const fault = workerLinksFault(env)
    if (fault !== null) throw new Error(inEnglish(fault))
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
