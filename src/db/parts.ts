/** D1 takes 2,000,000 bytes as one parameter. Half of that leaves room for what the statement adds. */
const MAX_PART_BYTES = 1_000_000

const utf8 = new TextEncoder()

/**
 * Items whose size devices or clients decide, in parts of which each fits into one parameter of D1 as JSON. No single item
 * may be larger than that.
 */
export function partsOf<T>(items: Iterable<T>): T[][] {
  const parts: T[][] = []
  let bytes = MAX_PART_BYTES
  for (const item of items) {
    const size = utf8.encode(JSON.stringify(item)).length
    if (bytes + size > MAX_PART_BYTES) {
      parts.push([])
      bytes = 0
    }
    parts.at(-1)!.push(item)
    bytes += size
  }
  return parts
}
