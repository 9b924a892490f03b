import { createHash } from 'node:crypto'

const MAGIC = 'EOTA'
const HEADER_BYTES = 64
const VERSION_BYTES = 32

/**
 * Returns a firmware image, the same for the same version and size (in bytes, at least 64): a header with magic,
 * version and length, and a body that does not compress.
 */
export function makeFirmware(version: string, size: number): Uint8Array<ArrayBuffer> {
  if (size < HEADER_BYTES) throw new RangeError(`A firmware image has at least ${HEADER_BYTES} bytes.`)
  const image = Buffer.alloc(size)
  image.write(MAGIC, 0, 'ascii')
  image.writeUInt32LE(size - HEADER_BYTES, MAGIC.length)
  image.write(version.slice(0, VERSION_BYTES), 8, 'utf8')
  let block = createHash('sha256').update(version).digest()
  for (let at = HEADER_BYTES; at < size; at += block.byteLength) {
    block.copy(image, at)
    block = createHash('sha256').update(block).digest()
  }
  return new Uint8Array(image)
}
