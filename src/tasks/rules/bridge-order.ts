/**
 * The place of a message in the order of a bridge name: within one lease by the active bridge's own sequence. No clocks
 * are compared (src/protocol/README.md#order-and-outages).
 */
export interface BridgeOrder {
  hub: string
  lease: number
  seq: number
}

/**
 * How a message compares to the last one that was taken. `repeated`: it was taken already. `late`: a bridge took it in
 * before another bridge took over, and that one was heard since.
 */
export function compareOrder(
  order: BridgeOrder | undefined,
  last: BridgeOrder | null,
): 'new' | 'repeated' | 'late' {
  // A message over HTTPS, or from another broker, has no place in this order.
  if (!order || order.hub !== last?.hub || order.lease > last.lease) return 'new'
  if (order.lease < last.lease) return 'late'
  return order.seq > last.seq ? 'new' : 'repeated'
}
