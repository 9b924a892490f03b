/**
 * Spreads each bit of a 32-bit hash over all of them (MurmurHash3's finaliser), so that near inputs lie far apart. Takes
 * any integer and returns one from 0 to 2³² − 1. Places of devices and fingerprints of messages are stored: the result
 * must never change.
 */
export function mix32(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
