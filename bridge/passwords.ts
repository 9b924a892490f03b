import { createHmac, randomBytes } from 'node:crypto'
import { verifyPassword } from '../src/protocol/passwords.ts'
import { createGate } from './brokers/gate.ts'

const KEEP_MS = 600_000
const MAX_KEPT = 50_000
/** The threads that Node has for hashing, by default. */
const AT_ONCE = 4

/**
 * Verifies passwords against their stored hashes. A right one is remembered for ten minutes, as an HMAC under a key of
 * this process, so that devices that reconnect often do not cost a slow hash each time.
 */
export function createPasswordCheck(): (password: string, stored: string) => Promise<boolean> {
  const secret = randomBytes(32)
  const right = new Map<string, number>()
  const gate = createGate(AT_ONCE)

  return async (password, stored) => {
    const name = createHmac('sha256', secret).update(`${stored}\0${password}`).digest('base64')
    const isKnown = () => (right.get(name) ?? 0) > performance.now()
    if (isKnown()) return true
    return gate(async () => {
      if (isKnown()) return true
      if (!(await verifyPassword(password, stored))) return false
      right.delete(name) // moves it to the end of the map
      right.set(name, performance.now() + KEEP_MS)
      for (const oldest of right.keys()) {
        if (right.size <= MAX_KEPT) break
        right.delete(oldest)
      }
      return true
    })
  }
}
