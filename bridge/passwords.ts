import { createHmac, randomBytes } from 'node:crypto'
import { verifyPassword } from '../src/protocol/passwords.ts'
import { createGate } from './brokers/gate.ts'

/** A day: a change of the password changes the stored hash, so nothing that is remembered becomes wrong. */
const KEEP_MS = 24 * 3_600_000
const MAX_KEPT = 50_000
/** The threads that Node has for hashing, by default. */
const AT_ONCE = 4

export interface PasswordCheck {
  isRight(password: string, stored: string): Promise<boolean>
  /** True if `isRight` found so within the last day. */
  isRemembered(password: string, stored: string): boolean
}

/**
 * Verifies passwords against their stored hashes. A right one is remembered for a day, as an HMAC under a key of this
 * process, so that devices that reconnect do not cost a slow hash each time.
 */
export function createPasswordCheck(): PasswordCheck {
  const secret = randomBytes(32)
  const right = new Map<string, number>()
  const gate = createGate(AT_ONCE)

  const nameOf = (password: string, stored: string) =>
    createHmac('sha256', secret).update(`${stored}\0${password}`).digest('base64')
  const isKnown = (name: string) => (right.get(name) ?? 0) > performance.now()

  async function isRight(password: string, stored: string): Promise<boolean> {
    const name = nameOf(password, stored)
    if (isKnown(name)) return true
    return gate(async () => {
      if (isKnown(name)) return true
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

  return { isRight, isRemembered: (password, stored) => isKnown(nameOf(password, stored)) }
}
