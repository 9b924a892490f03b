import { Buffer } from 'node:buffer'

const PREFIX = 'eota_'
const RANDOM_BYTES = 32
const KEY = new RegExp(`^${PREFIX}[A-Za-z0-9_-]{43}$`)

/** A new key: 256 random bits behind a prefix by which scanners for leaked secrets recognise it. */
export const newKey = () => PREFIX + randomText(RANDOM_BYTES)

/** Whether this has the form of a key. */
export const isKey = (text: string) => KEY.test(text)

/** A key's SHA-256 in hex: all that is stored. The key has 256 random bits, so a slow hash would add nothing. */
export const hashKey = (key: string) => sha256(key)

/** SHA-256 of a text's UTF-8, in lower-case hex. */
export async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return Buffer.from(digest).toString('hex')
}

/** Random bytes as base64url, without padding. */
export const randomText = (bytes: number) =>
  Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString('base64url')
