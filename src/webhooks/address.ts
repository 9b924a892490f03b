import ipaddr from 'ipaddr.js'
import type { Env } from '../common/env.ts'

export const MAX_URL_LENGTH = 2048

/** Names that stand for the local machine or network wherever they are resolved. */
const LOCAL_NAMES = ['localhost', 'local', 'internal', 'home.arpa']
/** What the internet's IPv6 addresses begin with; all others are local, or lead to an IPv4 address. */
const GLOBAL_IPV6 = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number]

export interface AddressRules {
  /** Allows http, too, and any host; for local use (`WEBHOOKS_ALLOW_PRIVATE`). */
  allowPrivate: boolean
}

/** The rules of this installation. */
export const addressRules = (env: Env): AddressRules => ({
  allowPrivate: env.WEBHOOKS_ALLOW_PRIVATE === 'true',
})

/**
 * The address of a webhook as it is stored and called, or what is wrong with it. It is checked after it was parsed as
 * `fetch` parses it, so that every spelling of an address (`127.1`, `0x7f000001`, `2130706433`, full-width digits) is
 * the same address.
 *
 * A name is not resolved here. It is resolved where the request is made, at Cloudflare's edge, which reaches the
 * internet only: a name that stands for a private address leads nowhere, whatever another resolver said a moment
 * before. An operator who runs the Worker inside a private network has to guard that network.
 */
export function readAddress(
  text: string,
  { allowPrivate }: AddressRules,
): { url: string } | { fault: string } {
  if (text.length > MAX_URL_LENGTH) return { fault: `must be at most ${MAX_URL_LENGTH} characters` }
  if (!URL.canParse(text)) return { fault: 'must be an address such as https://example.com/hook' }
  const url = new URL(text)
  if (url.protocol !== 'https:' && !(allowPrivate && url.protocol === 'http:'))
    return { fault: 'must be https' }
  if (url.username !== '' || url.password !== '') return { fault: 'must not have a username or password' }
  if (!allowPrivate && !isPublicHost(url.hostname)) {
    return { fault: 'must be a public host: no private, loopback or local address or name' }
  }
  // A fragment is never sent.
  url.hash = ''
  if (url.href.length > MAX_URL_LENGTH) return { fault: `must be at most ${MAX_URL_LENGTH} characters` }
  return { url: url.href }
}

/** `host` as `URL.hostname` gives it: lower case, IPv4 in its one form, IPv6 in brackets. */
function isPublicHost(host: string): boolean {
  if (host.startsWith('[')) {
    const address = ipaddr.parse(host.slice(1, -1)) as ipaddr.IPv6
    // An IPv4 address inside `::/96` is "unicast" to the library.
    return address.range() === 'unicast' && address.match(GLOBAL_IPV6)
  }
  if (ipaddr.IPv4.isValidFourPartDecimal(host)) return ipaddr.IPv4.parse(host).range() === 'unicast'
  const labels = host.split('.')
  // A single label is a name of the local network; an empty one is a trailing dot, a second spelling.
  if (labels.length < 2 || labels.includes('')) return false
  return !LOCAL_NAMES.some((name) => host.endsWith(`.${name}`) || host === name)
}
