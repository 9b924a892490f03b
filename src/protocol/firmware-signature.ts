/**
 * What a firmware signature covers, and whether one fits (src/protocol/README.md#signed-firmware). Pure but for
 * WebCrypto, and shared by the Worker, the tool that signs, and simulated devices.
 */

import { Buffer } from 'node:buffer'

const FIRST_LINE = 'edge-ota-firmware-1'
/** Would begin another line of the text, or be invisible in it. */
const CONTROL = /\p{Cc}/u

/** A file, and what it is for. */
export interface SignedFirmware {
  /** The product's name as devices have it built in. */
  signingName: string
  /** `default` for the whole firmware, whatever a notice calls it. */
  module: string
  version: string
  /** The version that a differential package starts from; null for a full one. */
  sourceVersion: string | null
  /** Bytes. */
  size: number
  /** Of the file, 64 lower-case hex digits. */
  sha256: string
  counter: number
}

/** A package's signature, with what it covers besides the other fields of a notice. */
export interface PackageSignature {
  keyId: string
  /** Base64. */
  value: string
  /** Of the file, also if its notices say MD5. */
  sha256: string
  counter: number
}

/** The text that is signed: nine lines, each ended by LF. Throws a RangeError for a field that is no line. */
export function signedText(firmware: SignedFirmware): string {
  const { signingName, module, version, sourceVersion, size, sha256, counter } = firmware
  const kind = sourceVersion === null ? 'full' : 'diff'
  const lines = [FIRST_LINE, signingName, module, version, kind, sourceVersion ?? '', size, sha256, counter]
  if (lines.some((line) => CONTROL.test(String(line))))
    throw new RangeError('A field has control characters.')
  return lines.map((line) => `${line}\n`).join('')
}

/** Is `signature` the Ed25519 signature of this firmware by `publicKey` (both in base64)? */
export async function isSignedBy(
  publicKey: string,
  signature: string,
  firmware: SignedFirmware,
): Promise<boolean> {
  try {
    const key = await importPublicKey(publicKey)
    const text = new TextEncoder().encode(signedText(firmware))
    return await crypto.subtle.verify('Ed25519', key, Buffer.from(signature, 'base64'), text)
  } catch {
    // No usable key, a signature of another length, or a field that is no line.
    return false
  }
}

/**
 * Can signatures be checked by this key (in base64), and forged by nobody? Bytes that are no point of the curve are not
 * told: no signature fits them.
 */
export const isUsablePublicKey = (publicKey: string): Promise<boolean> =>
  importPublicKey(publicKey).then(
    () => true,
    () => false,
  )

/**
 * The y coordinates of the points of small order, in hex, the sign bit aside; the last two are 0 and 1 written as p and
 * p + 1. Under such a key one signature fits many texts, whoever made it, and not every WebCrypto refuses it.
 */
const SMALL_ORDER = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
])

async function importPublicKey(publicKey: string): Promise<CryptoKey> {
  const raw = Buffer.from(publicKey, 'base64')
  const y = Buffer.from(raw)
  y[y.byteLength - 1]! &= 0x7f
  if (SMALL_ORDER.has(y.toString('hex'))) throw new RangeError('A key of small order.')
  return crypto.subtle.importKey('raw', raw, 'Ed25519', false, ['verify'])
}

/** Standard base64 of so many bytes, and the only spelling of them. */
export const isBase64Of = (bytes: number, text: string): boolean => {
  const read = Buffer.from(text, 'base64')
  return read.byteLength === bytes && read.toString('base64') === text
}

export const PUBLIC_KEY_BYTES = 32
export const SIGNATURE_BYTES = 64
export const MAX_COUNTER = Number.MAX_SAFE_INTEGER
