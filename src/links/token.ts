import { Buffer } from 'node:buffer'
import { timingSafeEqual } from 'node:crypto'
import { TypeID } from 'typeid-js'

/** What a link through the Worker permits to anybody who has it, as a presigned link does. */
export interface Grant {
  taskId: string
  deviceId: string
  /** The package's place in the task's list. */
  packageIndex: number
  /** Milliseconds since 1970. */
  expiresAt: number
}

const ID_BYTES = 16
/** HMAC-SHA-256, cut to 128 bits (RFC 2104, 5). */
const MAC_BYTES = 16
/** Two ids, the package, the second of the expiry, the code: 71 characters of base64url. */
const GRANT_BYTES = 2 * ID_BYTES + 1 + 4
const TOKEN_BYTES = GRANT_BYTES + MAC_BYTES
export const TOKEN_LENGTH = Math.ceil((TOKEN_BYTES * 4) / 3)

export type TokenKey = CryptoKey

export const importTokenKey = (secret: string): Promise<TokenKey> =>
  crypto.subtle.importKey('raw', new TextEncoder().encode(secret), { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
  ])

export async function makeToken(key: TokenKey, grant: Grant): Promise<string> {
  const bytes = Buffer.alloc(GRANT_BYTES)
  bytes.set(TypeID.fromString(grant.taskId).toUUIDBytes(), 0)
  bytes.set(TypeID.fromString(grant.deviceId).toUUIDBytes(), ID_BYTES)
  bytes.writeUInt8(grant.packageIndex, 2 * ID_BYTES)
  bytes.writeUInt32BE(Math.floor(grant.expiresAt / 1000), 2 * ID_BYTES + 1)
  return Buffer.concat([bytes, await codeOf(key, bytes)]).toString('base64url')
}

/** Undefined for a token that this installation did not make. The caller checks the expiry. */
export async function readToken(key: TokenKey, token: string): Promise<Grant | undefined> {
  if (token.length !== TOKEN_LENGTH) return undefined
  const bytes = Buffer.from(token, 'base64url')
  // The last character has spare bits: only one spelling of a token counts.
  if (bytes.length !== TOKEN_BYTES || bytes.toString('base64url') !== token) return undefined
  const granted = bytes.subarray(0, GRANT_BYTES)
  if (!timingSafeEqual(await codeOf(key, granted), bytes.subarray(GRANT_BYTES))) return undefined
  return {
    taskId: TypeID.fromUUIDBytes('tsk', granted.subarray(0, ID_BYTES)).toString(),
    deviceId: TypeID.fromUUIDBytes('dev', granted.subarray(ID_BYTES, 2 * ID_BYTES)).toString(),
    packageIndex: granted.readUInt8(2 * ID_BYTES),
    expiresAt: granted.readUInt32BE(2 * ID_BYTES + 1) * 1000,
  }
}

const codeOf = async (key: TokenKey, bytes: Uint8Array): Promise<Uint8Array> =>
  new Uint8Array(await crypto.subtle.sign('HMAC', key, bytes as Uint8Array<ArrayBuffer>)).subarray(
    0,
    MAC_BYTES,
  )
