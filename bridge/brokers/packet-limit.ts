import type { Socket } from 'node:net'

/**
 * Follows MQTT's fixed headers through a byte stream. The scanner returns false at the header of the first packet that
 * is larger than `maxBytes` or has an invalid length, before its body is collected.
 */
export function packetScanner(maxBytes: number): (chunk: Uint8Array) => boolean {
  let body = 0 // bytes of the current packet's body that are still to come
  let lengthBytes = -1 // bytes of the length field so far; −1: the next byte is the first of a packet
  let length = 0
  return (chunk) => {
    let at = 0
    while (at < chunk.length) {
      if (body > 0) {
        const step = Math.min(body, chunk.length - at)
        body -= step
        at += step
        continue
      }
      const byte = chunk[at++]!
      if (lengthBytes < 0) {
        lengthBytes = 0
        length = 0
        continue
      }
      length += (byte & 0x7f) * 128 ** lengthBytes
      lengthBytes++
      if (length > maxBytes || (lengthBytes === 4 && byte & 0x80)) return false
      if (byte & 0x80) continue
      body = length
      lengthBytes = -1
    }
    return true
  }
}

/**
 * Closes the connection at the header of a packet that is too large. The broker's parser has no such limit: it would
 * collect up to 256 MB, even from clients that are not authenticated.
 */
export function limitPackets(socket: Socket, maxBytes: number, onRefused: () => void): void {
  const scan = packetScanner(maxBytes)
  const push = socket.push
  socket.push = function (this: Socket, chunk: Buffer | null, encoding?: BufferEncoding) {
    if (chunk !== null && !scan(chunk)) {
      onRefused()
      socket.destroy()
      return false
    }
    return push.call(this, chunk, encoding)
  }
}
