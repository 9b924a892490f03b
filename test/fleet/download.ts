import { createHash } from 'node:crypto'
import type { SignMethod } from '../../src/protocol/device.ts'
import { ConnectionLost, UpgradeFault } from './fault.ts'
import type { Gate } from './link.ts'
import type { StatsKeeper } from './stats.ts'

const MAX_TRIES = 8
const RETRY_MS = 300
const MAX_RETRY_MS = 10_000
const ALGORITHMS: Record<SignMethod, string> = { MD5: 'md5', SHA256: 'sha256' }
const FULL = 200
const PARTIAL = 206
const TOO_MANY = 429
const SERVER_ERROR = 500

/** A fault that trying again with the same link cannot heal. */
const downloadFault = (reason: string) => new UpgradeFault(-2, reason)

/** What a request needs to go on after the network broke. */
interface Persistence {
  /** Limits how many requests of the fleet run at once. */
  gate: Gate
  untilOnline: () => Promise<void>
  onResume: () => void
  signal: AbortSignal
  sleep: (ms: number) => Promise<void>
}

export interface DownloadOptions extends Persistence {
  /** Returns the newest link: a notice may bring another during the download. */
  url: () => string
  /** The file's size in bytes, from the notice. */
  size: number
  signMethod: SignMethod
  chunkBytes: number
  bytesPerSecond: number
  /** Breaks the connection at this offset, once. */
  cutAt: number | undefined
  /** Called after each piece; the download waits for it. If it throws a ConnectionLost, the download resumes. */
  onBytes: (received: number) => Promise<void>
  stats: StatsKeeper
}

/** Digests of a file in lower-case hex. */
export interface FileDigests {
  /** By the notice's `signMethod`. */
  sign: string
  sha256: string
}

/**
 * Downloads the file and returns its digests; the file is not kept. After a broken connection it resumes with `Range`
 * and checks that the file is still the same. Throws an UpgradeFault if it cannot go on.
 */
export async function downloadDigests(options: DownloadOptions): Promise<FileDigests> {
  const { size, signal, stats } = options
  const hashes = [createHash(ALGORITHMS[options.signMethod]), createHash('sha256')] as const
  let { cutAt } = options
  let offset = 0
  let etag: string | undefined
  stats.counts.downloads++

  async function receive(body: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const bytes of body) {
      const cut = cutAt !== undefined && offset + bytes.byteLength >= cutAt
      const piece = cut ? bytes.subarray(0, cutAt! - offset) : bytes
      for (const hash of hashes) hash.update(piece)
      offset += piece.byteLength
      stats.counts.downloadedBytes += piece.byteLength
      if (offset > size) throw downloadFault(`more than the ${size} bytes that were promised`)
      await options.onBytes(offset)
      if (options.bytesPerSecond > 0) {
        await options.sleep((piece.byteLength / options.bytesPerSecond) * 1000)
      }
      if (cut) {
        cutAt = undefined
        throw new ConnectionLost('cut on purpose') // leaving the loop closes the connection
      }
    }
  }

  while (offset < size) {
    await persist(options, () => offset, requestNext)
  }
  const [sign, sha256] = hashes.map((hash) => hash.digest('hex')) as [string, string]
  return { sign, sha256 }

  async function requestNext(): Promise<void> {
    if (offset === size) return // the network broke right after the last byte
    const end = options.chunkBytes > 0 ? Math.min(offset + options.chunkBytes, size) - 1 : size - 1
    const range = offset > 0 || end < size - 1 ? { offset, end } : undefined
    const before = offset
    const response = await request(options.url(), range, signal)
    const tag = checkResponse(response, offset, size, range !== undefined)
    if (etag !== undefined && tag !== etag) throw downloadFault('the file changed meanwhile')
    etag = tag
    await receive(bytesOf(response))
    if (offset === before) throw new ConnectionLost('an empty answer')
  }
}

/** Fetches one byte to check that the link works and the file has the size of the notice; throws an UpgradeFault if not. */
export async function checkLink(
  options: Persistence & { url: () => string; size: number; stats: StatsKeeper },
): Promise<void> {
  options.stats.counts.downloads++
  await persist(
    options,
    () => 0,
    async () => {
      const response = await request(options.url(), { offset: 0, end: 0 }, options.signal)
      await response.body?.cancel()
      checkResponse(response, 0, options.size, true)
    },
  )
}

/** Repeats a request while the network breaks; gives up after `MAX_TRIES` in a row that brought no byte. */
async function persist(
  options: Persistence,
  received: () => number,
  requestNext: () => Promise<void>,
): Promise<void> {
  for (let failures = 0; ; ) {
    const before = received()
    try {
      await options.gate(() => {
        options.signal.throwIfAborted()
        return requestNext()
      })
      return
    } catch (error) {
      options.signal.throwIfAborted()
      if (!(error instanceof ConnectionLost)) throw error
      failures = received() > before ? 1 : failures + 1
      if (failures >= MAX_TRIES) throw downloadFault(`gave up after ${failures} tries: ${error.message}`)
      await options.untilOnline()
      await options.sleep(Math.min(RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS))
      if (received() > 0) options.onResume()
    }
  }
}

async function request(
  url: string,
  range: { offset: number; end: number } | undefined,
  signal: AbortSignal,
): Promise<Response> {
  try {
    const headers: HeadersInit = range ? { range: `bytes=${range.offset}-${range.end}` } : {}
    return await fetch(url, { headers, signal })
  } catch {
    throw new ConnectionLost('no answer')
  }
}

async function* bytesOf(response: Response): AsyncGenerator<Uint8Array> {
  try {
    yield* response.body as AsyncIterable<Uint8Array>
  } catch {
    throw new ConnectionLost('broken off')
  }
}

/** Returns the file's ETag; throws if the answer is not what was asked for. */
function checkResponse(response: Response, offset: number, size: number, ranged: boolean): string {
  const { status, headers } = response
  if (status === TOO_MANY || status >= SERVER_ERROR) throw new ConnectionLost(`status ${status}`)
  if (status !== (ranged ? PARTIAL : FULL)) throw downloadFault(`the link answered ${status}`)
  if (ranged) {
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? []
    if (Number(start) !== offset || Number(total) !== size) {
      throw downloadFault('another range than the one that was asked for')
    }
  }
  return headers.get('etag') ?? ''
}
