import type { Sender } from '../messages/identify.ts'
import { type BatchItem, MAX_BATCH_ITEMS_OF_DEVICE } from '../protocol/bridge.ts'
import { createTokenBuckets } from '../protocol/token-bucket.ts'

/**
 * More than our own bridge lets a device send (bridge/README.md#fair-shares), so that its backlogs pass. Bridges of
 * another make may let through anything.
 */
const ALLOWED = { perMinute: 600, atOnce: 3_000 }

/**
 * Kept by each isolate for itself: a bridge posts one batch after the other, mostly to the same one. A limit that all
 * isolates shared would cost a call for each device of each batch.
 */
const buckets = createTokenBuckets(ALLOWED, Date.now)

/**
 * Those items of a batch that are to be sent again later, since their device takes more than its share: what is beyond
 * it, and all later ones of that device, so that their order stays.
 */
export function itemsOverShare(
  items: readonly BatchItem[],
  senders: ReadonlyMap<string, Sender>,
): Set<BatchItem> {
  const over = new Set<BatchItem>()
  const countOf = new Map<string, number>()
  const held = new Set<string>()
  for (const item of items) {
    const deviceId = deviceOf(item, senders)
    if (deviceId === undefined) continue
    const count = (countOf.get(deviceId) ?? 0) + 1
    countOf.set(deviceId, count)
    // What the bridge itself says of a notice is not the device's doing: it only keeps its place.
    const isItsOwn = 'username' in item
    const isOver = isItsOwn && (count > MAX_BATCH_ITEMS_OF_DEVICE || !buckets.take(deviceId))
    if (isOver) held.add(deviceId)
    if (held.has(deviceId)) over.add(item)
  }
  return over
}

/** Undefined for a device that is unknown to this bridge: its items are rejected, which costs nothing more. */
function deviceOf(item: BatchItem, senders: ReadonlyMap<string, Sender>): string | undefined {
  if ('username' in item) return senders.get(item.username)?.id
  return 'notice' in item ? item.notice.device : undefined
}
