import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from './inspector.ts'
import type { Local } from './local.ts'

export interface Peak {
  /** V8's heap after a collection: the Worker and all objects, which share one isolate here. */
  heapMiB: number
  /** Resident memory of the whole process, with D1, R2 and SQLite's caches. */
  residentMiB: number
}

const EVERY_MS = 2_000
const MIB = 1024 * 1024

/** Watches the Worker's memory; `stop` returns the peak. */
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
