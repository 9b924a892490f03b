/**
 * The place of a message in the order of a bridge name (ARCHITECTURE.md, "BridgeHub"): within one lease by the active
 * bridge's own sequence. No clocks are compared (PROTOCOL.md, 4).
 */
export interface BridgeOrder {
  hub: string
  lease: number
  seq: number
}

/**
 * Where a message stands against the last one that was taken: `repeated` was taken already; `late` was given to a
 * bridge before another one, which was heard since, took over from it.
 */
export function compareOrder(
  order: BridgeOrder | undefined,
  last: BridgeOrder | null,
): 'new' | 'repeated' | 'late' {
  // What came another way, or from another broker, has no place in this order.
  if (!order || order.hub !== last?.hub || order.lease > last.lease) return 'new'
  if (order.lease < last.lease) return 'late'
  return order.seq > last.seq ? 'new' : 'repeated'
}
