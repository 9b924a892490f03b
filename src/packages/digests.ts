import { Buffer } from 'node:buffer'
import { z } from '@hono/zod-openapi'

export type DigestMethod = 'SHA256' | 'MD5'

const ALGORITHMS = { SHA256: 'SHA-256', MD5: 'MD5' } as const

/** A SHA-256 in hex from a client, made lower case. */
export const sha256Hex = z
  .string()
  .regex(/^[0-9a-fA-F]{64}$/, 'must be a SHA-256 of 64 hex digits')
  .toLowerCase()

/** Digests of one stream in lower-case hex, one for each method asked for. */
export type Digests = Partial<Record<DigestMethod, string>>

/** Bytes read at once: a network body comes by the few KiB, and each read costs processor time. */
const CHUNK_BYTES = 64 * 1024

/** The source failed, or had fewer or more bytes than announced. */
export class CutOff extends Error {}

/**
 * Reads `length` bytes from `source` once and gives each chunk to the digests and to `sink`. Waits for the slowest of
 * them, so that one chunk at a time is in memory, whatever the file's size. Throws `CutOff` if the source is at
 * fault, else what the sink throws.
 */
export async function readWhole(
  source: ReadableStream<Uint8Array>,
  length: number,
  { methods = [], sink }: { methods?: DigestMethod[]; sink?: WritableStream<Uint8Array> },
): Promise<Digests> {
  const streams = [...new Set(methods)].map((method) => ({
    method,
    stream: new crypto.DigestStream(ALGORITHMS[method]),
  }))
  const writers: WritableStreamDefaultWriter<Uint8Array>[] = streams.map(({ stream }) => stream.getWriter())
  if (sink) writers.push(sink.getWriter())
  const reader = source.getReader({ mode: 'byob' })
  try {
    for (let left = length; ; ) {
      const chunk = await readChunk(reader)
      if (chunk === undefined && left > 0) throw new CutOff(`${left} bytes are missing`)
      if (chunk === undefined) break
      left -= chunk.byteLength
      if (left < 0) throw new CutOff('there is more than announced')
      await Promise.all(writers.map((writer) => writer.write(chunk)))
    }
    await Promise.all(writers.map((writer) => writer.close()))
  } catch (error) {
    for (const { stream } of streams) stream.digest.catch(() => {})
    await Promise.allSettled([reader.cancel(error), ...writers.map((writer) => writer.abort(error))])
    throw error
  }
  const digests: Digests = {}
  for (const { method, stream } of streams) digests[method] = Buffer.from(await stream.digest).toString('hex')
  return digests
}

async function readChunk(reader: ReadableStreamBYOBReader): Promise<Uint8Array | undefined> {
  try {
    const { value, done } = await reader.read(new Uint8Array(CHUNK_BYTES))
    return done ? undefined : value
  } catch (cause) {
    throw new CutOff('the source failed', { cause })
  }
}
