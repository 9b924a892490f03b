import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from './inspector.ts'
import type { Local } from './local.ts'

export interface Peak {
  /** V8's heap of the Worker and all its objects, which here share one isolate, after a collection. */
  heapMiB: number
  /** Of the whole process: D1, R2 and SQLite's caches too. */
  residentMiB: number
}

const EVERY_MS = 2_000
const MIB = 1024 * 1024

/** The most that the Worker holds until `stop`. */
export function watchMemory(local: Local): { stop(): Promise<Peak> } {
  const peak: Peak = { heapMiB: 0, residentMiB: 0 }
  let isOver = false
  const watching = (async () => {
    const inspector = await inspect(local.inspectorPort)
    while (!isOver) {
      await inspector.call('HeapProfiler.collectGarbage')
      const { usedSize } = (await inspector.call('Runtime.getHeapUsage')) as { usedSize: number }
      peak.heapMiB = Math.max(peak.heapMiB, usedSize / MIB)
      peak.residentMiB = Math.max(peak.residentMiB, local.memoryMiB())
      await sleep(EVERY_MS)
    }
    inspector.close()
  })()
  return {
    async stop() {
      isOver = true
      await watching
      return peak
    },
  }
}
