/** A part of a file, in bytes from its start. */
export interface Range {
  offset: number
  length: number
}

/**
 * The part that a `Range` header asks for, of a file of `size` bytes (RFC 9110, 14.2). Undefined means the whole file:
 * no header, a malformed one, or several ranges in one. `unsatisfiable` if the file has no byte of the range.
 */
export function readRange(header: string | undefined, size: number): Range | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header?.trim() ?? '')
  if (!match || (match[1] === '' && match[2] === '')) return undefined
  const [, first, last] = match
  if (first === '') {
    const length = Math.min(Number(last), size)
    return length === 0 ? 'unsatisfiable' : { offset: size - length, length }
  }
  const offset = Number(first)
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  if (last !== '' && Number(last) < offset) return undefined
  return offset >= size ? 'unsatisfiable' : { offset, length: end - offset + 1 }
}
