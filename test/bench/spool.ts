import { join } from 'node:path'
import { openSpool, type SpoolEntry } from '../../bridge/spool.ts'

const MIB = 1024 * 1024
/** The bridge reads as many entries for a batch. */
const BATCH_ITEMS = 1000

/** A spool entry of a device's progress. */
const ENTRY: SpoolEntry = {
  key: 'bench-0',
  at: 1_764_000_000_000,
  body: JSON.stringify({
    kind: 'message',
    username: 'bench-0',
    topic: 'ota/device/progress',
    payload: Buffer.from(JSON.stringify({ step: '42', desc: 'Upgrade Progress 42%' })).toString('base64'),
  }),
}

/** Messages/s into the spool alone, `together` in each transaction, and out of it again in batches. */
export function measureSpool(
  directory: string,
  sync: 'normal' | 'full',
  together: number,
  count: number,
): { written: number; drained: number } {
  const spool = openSpool(join(directory, `alone-${sync}-${together}-${performance.now()}.db`), { sync })
  try {
    const group = Array<SpoolEntry>(together).fill(ENTRY)
    let since = performance.now()
    for (let n = 0; n < count; n += together) spool.append(group)
    const written = rate(count, since)
    since = performance.now()
    while (spool.depth() > 0) spool.drop(spool.peek(BATCH_ITEMS, MIB, []))
    return { written, drained: rate(count, since) }
  } finally {
    spool.close()
  }
}

const rate = (count: number, since: number) => Math.round(count / ((performance.now() - since) / 1000))
