import type { Env } from '../env.ts'
import { createLinkCache, type DownloadLink } from './links.ts'

export type DownloadsMode = 'r2' | 'worker'

// Placeholder until links through the Worker exist.
export const downloadsMode = (_env: Env, _product: DownloadsMode | null): DownloadsMode => 'r2'

export function createLinker(env: Env) {
  const cached = createLinkCache()
  return (link: {
    mode: DownloadsMode
    taskId: string
    deviceId: string
    packageId: string
    storageKey: string
    ttlSeconds: number
    now: number
  }): Promise<DownloadLink> => cached(env, link.storageKey, link.ttlSeconds, link.now)
}
