import { Buffer } from 'node:buffer'

const PREFIX = 'whsec_'
/** Limits of the Standard Webhooks specification, in bytes. */
const MIN_BYTES = 24
const MAX_BYTES = 64
const NEW_BYTES = 32

/** A new secret, which signs deliveries (HMAC-SHA256), in the form that the libraries of Standard Webhooks take. */
export const newSecret = () =>
  PREFIX + Buffer.from(crypto.getRandomValues(new Uint8Array(NEW_BYTES))).toString('base64')

/** `whsec_` and 24 to 64 bytes in base64, with its padding. */
export function isSecret(text: string): boolean {
  if (!text.startsWith(PREFIX)) return false
  const encoded = text.slice(PREFIX.length)
  const bytes = Buffer.from(encoded, 'base64')
  // Decoding ignores characters that are no base64; encoding again shows that they were there.
  return bytes.length >= MIN_BYTES && bytes.length <= MAX_BYTES && bytes.toString('base64') === encoded
}
