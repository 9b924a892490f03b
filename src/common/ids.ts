import { TypeID, typeid } from 'typeid-js'

export type IdPrefix = 'ten' | 'key' | 'prd' | 'dev' | 'pkg' | 'tsk' | 'upl' | 'aud' | 'whk' | 'sgk'

/** A new id with its kind as prefix; ids of one kind sort by their time of creation (UUIDv7). */
export function newId(prefix: IdPrefix): string {
  return typeid(prefix).toString()
}

/** The same id for the same seed, so that a repeated request creates nothing twice. */
export async function repeatableId(prefix: IdPrefix, seed: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(seed))
  return TypeID.fromUUIDBytes(prefix, new Uint8Array(digest).slice(0, 16)).toString()
}
