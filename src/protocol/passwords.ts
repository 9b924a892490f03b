import { Buffer } from 'node:buffer'
import { timingSafeEqual } from 'node:crypto'

/** Each CONNECT with Basic credentials pays for these: few enough for a Worker. Each hash says how many it took. */
const ITERATIONS = 10_000
const SALT_BYTES = 16
const HASH_BITS = 256
const STORED = /^pbkdf2\$(\d{1,7})\$([A-Za-z0-9_-]+)\$([A-Za-z0-9_-]+)$/

/** `pbkdf2$<iterations>$<salt>$<hash>`, PBKDF2-SHA-256, salt and hash in base64url. */
export async function hashPassword(password: string): Promise<string> {
  const salt = Buffer.from(crypto.getRandomValues(new Uint8Array(SALT_BYTES)))
  const hash = await derive(password, salt, ITERATIONS)
  return `pbkdf2$${ITERATIONS}$${salt.toString('base64url')}$${hash.toString('base64url')}`
}

/** Compares in constant time; false if the stored text is no hash. */
export async function verifyPassword(password: string, stored: string): Promise<boolean> {
  const [, iterations, salt, hash] = STORED.exec(stored) ?? []
  if (iterations === undefined || salt === undefined || hash === undefined) return false
  const expected = Buffer.from(hash, 'base64url')
  const actual = await derive(password, Buffer.from(salt, 'base64url'), Number(iterations))
  return actual.byteLength === expected.byteLength && timingSafeEqual(actual, expected)
}

async function derive(password: string, salt: Uint8Array, iterations: number): Promise<Buffer> {
  const key = await crypto.subtle.importKey('raw', new TextEncoder().encode(password), 'PBKDF2', false, [
    'deriveBits',
  ])
  const bits = await crypto.subtle.deriveBits(
    { name: 'PBKDF2', hash: 'SHA-256', salt, iterations },
    key,
    HASH_BITS,
  )
  return Buffer.from(bits)
}
