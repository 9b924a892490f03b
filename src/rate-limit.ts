import type { Context } from 'hono'
import type { AppEnv } from './auth/principal.ts'
import { tooMany } from './errors.ts'

const LIMIT_PERIOD_SECONDS = 60

/** By address, before any other work: an address that knows no token costs nothing more than this. 429 past it. */
export async function limitAddress(c: Context<AppEnv>): Promise<void> {
  const address = c.req.header('cf-connecting-ip') ?? 'local'
  if (!(await c.env.DEVICE_LIMIT.limit({ key: limitKey(address) })).success)
    throw tooMany(LIMIT_PERIOD_SECONDS)
}

/** An IPv6 customer has a /64 of addresses: its first four groups, however the address is abbreviated. */
function limitKey(address: string): string {
  if (!address.includes(':')) return address
  const [head = '', tail] = address.split('::')
  const first = head.split(':').filter((group) => group !== '')
  const last = tail?.split(':') ?? []
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - first.length - last.length)
  return [...first, ...Array(zeros).fill('0'), ...last].slice(0, 4).join(':')
}
