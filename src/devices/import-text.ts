import { badRequest } from '../common/errors.ts'

// How a file's bytes become text, and which character separates its cells.

const ENCODINGS = [
  { mark: [0xff, 0xfe], name: 'utf-16le' },
  { mark: [0xfe, 0xff], name: 'utf-16be' },
] as const
const MARK_BYTES = 2

/** A file's text as it arrives: UTF-8, or UTF-16 if its byte order mark says so. A file that breaks off is a 400. */
export async function* textOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let decoder: TextDecoder | undefined
  let start = new Uint8Array()
  for await (const chunk of bytesOf(body)) {
    if (decoder) {
      yield decoder.decode(chunk, { stream: true })
      continue
    }
    start = concatenated(start, chunk)
    if (start.length < MARK_BYTES) continue
    decoder = decoderOf(start)
    yield decoder.decode(start, { stream: true })
  }
  yield decoder ? decoder.decode() : new TextDecoder().decode(start)
}

function decoderOf(start: Uint8Array): TextDecoder {
  const found = ENCODINGS.find(({ mark }) => mark.every((byte, index) => start[index] === byte))
  return new TextDecoder(found?.name ?? 'utf-8')
}

function concatenated(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(a.length + b.length)
  whole.set(a)
  whole.set(b, a.length)
  return whole
}

async function* bytesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch {
    throw badRequest(
      'import.cut_off',
      'The file broke off. What was read before stays imported; send it again.',
    )
  }
}

// ---- Delimiters -----------------------------------------------------------------------------------------

const DELIMITERS = [',', ';', '\t'] as const
/** What a spreadsheet writes and reads as a first line: `sep=;`. */
const SEPARATOR_LINE = /^\s*sep=(.)\s*$/i

/** What separates the cells of the file, and whether its first line says so and is no header. */
export interface Delimiter {
  delimiter: string
  hasSeparatorLine: boolean
}

/** Judged by the file's first line: the delimiter that it names, or has most of outside quotes. */
export function delimiterOf(firstLine: string): Delimiter {
  const named = SEPARATOR_LINE.exec(firstLine)?.[1]
  if (named) return { delimiter: named, hasSeparatorLine: true }
  const bare = firstLine.replaceAll(/"[^"]*"/g, '')
  const count = (delimiter: string) => bare.split(delimiter).length
  const delimiter = DELIMITERS.reduce((best, other) => (count(other) > count(best) ? other : best))
  return { delimiter, hasSeparatorLine: false }
}
