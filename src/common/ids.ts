import { TypeID, typeid } from 'typeid-js'

export type IdPrefix = 'ten' | 'key' | 'prd' | 'dev' | 'pkg' | 'tsk' | 'upl' | 'aud' | 'whk' | 'sgk'

/** A new id with its kind as prefix; ids of one kind sort by their time of creation (UUIDv7). */
export function newId(prefix: IdPrefix): string {
  return typeid(prefix).toString()
}

/** The same id for the same text, for what has one name in an installation. */
export async function namedId(prefix: IdPrefix, text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return TypeID.fromUUIDBytes(prefix, new Uint8Array(digest).slice(0, 16)).toString()
}

/** One request under an `Idempotency-Key`, however often it is repeated. */
export interface Repeat {
  /** No other request has the same. */
  seed: string
  /** When it came first, in ms since 1970. */
  at: number
}

const TIME_BYTES = 6

/** The same id for each repeat of a request, so that it creates nothing twice; it sorts like `newId` at that time. */
export async function repeatableId(prefix: IdPrefix, { seed, at }: Repeat): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${seed}\n${at}`))
  const bytes = new Uint8Array(digest).slice(0, 16)
  for (let byte = 0; byte < TIME_BYTES; byte++) {
    bytes[byte] = Math.floor(at / 256 ** (TIME_BYTES - 1 - byte)) % 256
  }
  return TypeID.fromUUIDBytes(prefix, bytes).toString()
}
