import { type Local, signIn } from './local.ts'
import { percentile } from './statistics.ts'

/** Time to the first byte of a page or list, in ms. */
export interface Reads {
  p50: number
  p99: number
}

/** The pages of the console and the lists of the API. */
const pathsOf = (ids: { productId: string; packageId: string; taskId: string; deviceId: string }) => [
  '/',
  '/products',
  `/products/${ids.productId}`,
  '/devices',
  `/devices?productId=${ids.productId}&search=00042`,
  `/devices/${ids.deviceId}`,
  '/firmware',
  `/packages/${ids.packageId}`,
  `/tasks/${ids.taskId}`,
  `/tasks/${ids.taskId}?status=pushed`,
  `/tasks/${ids.taskId}/devices/${ids.deviceId}`,
  '/settings',
  '/settings/audit',
  `/api/v1/tasks/${ids.taskId}`,
  `/api/v1/tasks/${ids.taskId}/devices?limit=50`,
  `/api/v1/devices?productId=${ids.productId}&limit=50`,
]

export async function reads(
  local: Local,
  ids: Parameters<typeof pathsOf>[0],
  requests: number,
): Promise<Record<string, Reads>> {
  const cookie = await signIn(local)
  const result: Record<string, Reads> = {}
  for (const path of pathsOf(ids)) {
    const times: number[] = []
    for (let n = 0; n <= requests; n++) {
      const since = performance.now()
      const response = await fetch(local.url + path, {
        headers: path.startsWith('/api/') ? { authorization: `Bearer ${local.adminKey}` } : { cookie },
        redirect: 'manual',
      })
      // `fetch` resolves with the headers: the first byte. Request 0 only warms up.
      if (n > 0) times.push(performance.now() - since)
      await response.arrayBuffer()
      if (response.status !== 200) throw new Error(`${path}: ${response.status}`)
    }
    result[nameOf(path)] = {
      p50: Math.round(percentile(times, 0.5)),
      p99: Math.round(percentile(times, 0.99)),
    }
  }
  return result
}

/** The path without its ids, which differ in each run. */
const nameOf = (path: string) => path.replace(/[a-z]{3}_[0-9a-z]{26}/g, '…')
