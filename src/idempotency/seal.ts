import { Buffer } from 'node:buffer'
import { sha256 } from '../auth/key.ts'

const IV_BYTES = 12

/**
 * Kept answers may show a secret (a new key, a device's token). So they are encrypted under the caller's API key, of
 * which the database has only the hash: reading the database is not enough to read them.
 */
export async function seal(apiKey: string, idempotencyKey: string, text: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES))
  const key = await sealingKey(apiKey, idempotencyKey)
  const sealed = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, key, new TextEncoder().encode(text))
  return Buffer.concat([iv, new Uint8Array(sealed)]).toString('base64url')
}

/** The text that `seal` was given with the same keys; throws for any other. */
export async function unseal(apiKey: string, idempotencyKey: string, sealed: string): Promise<string> {
  const bytes = Buffer.from(sealed, 'base64url')
  const key = await sealingKey(apiKey, idempotencyKey)
  const iv = bytes.subarray(0, IV_BYTES)
  const text = await crypto.subtle.decrypt({ name: 'AES-GCM', iv }, key, bytes.subarray(IV_BYTES))
  return new TextDecoder().decode(text)
}

/** The API key is hashed too, so that a password in the body cannot be guessed from the hash. */
export const hashRequest = (apiKey: string, method: string, url: string, body: string) =>
  sha256([apiKey, method, url, body].join('\n'))

async function sealingKey(apiKey: string, idempotencyKey: string): Promise<CryptoKey> {
  const utf8 = new TextEncoder()
  const material = await crypto.subtle.importKey('raw', utf8.encode(apiKey), 'HKDF', false, ['deriveKey'])
  const salt = utf8.encode(idempotencyKey)
  const info = utf8.encode('idempotent answer')
  return crypto.subtle.deriveKey(
    { name: 'HKDF', hash: 'SHA-256', salt, info },
    material,
    { name: 'AES-GCM', length: 256 },
    false,
    ['encrypt', 'decrypt'],
  )
}
