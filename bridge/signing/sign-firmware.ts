import { createHash, type KeyObject, sign } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type SignedFirmware, signedText } from '../../src/protocol/firmware-signature.ts'

/** The size in bytes and the SHA-256 of a file of any size. */
export async function measure(path: string): Promise<Pick<SignedFirmware, 'size' | 'sha256'>> {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk)
    size += chunk.length
  }
  return { size, sha256: hash.digest('hex') }
}

/** The signature in base64. Throws a RangeError for a field that is no line. */
export const signFirmware = (key: KeyObject, firmware: SignedFirmware): string =>
  sign(null, Buffer.from(signedText(firmware)), key).toString('base64')
