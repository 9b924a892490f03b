import ipaddr from 'ipaddr.js'

/** A broker may send any text as an address: this much of it makes the key. */
const MAX_ADDRESS_LENGTH = 64

/**
 * One key for each customer of a network, however the address is written: an IPv6 customer has a /64 of addresses;
 * an IPv4 address may come mapped into IPv6.
 */
export function limitKey(address: string): string {
  if (!ipaddr.isValid(address)) return address.slice(0, MAX_ADDRESS_LENGTH)
  const parsed = ipaddr.process(address)
  if (parsed.kind() === 'ipv4') return parsed.toString()
  return (parsed as ipaddr.IPv6).parts
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')
}
