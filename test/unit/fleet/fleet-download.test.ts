import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { createGate } from '../../../bridge/brokers/gate.ts'
import { checkLink, type DownloadOptions, downloadDigests } from '../../fleet/download.ts'
import { UpgradeFault } from '../../fleet/fault.ts'
import { makeFirmware } from '../../fleet/firmware.ts'
import { createStats } from '../../fleet/stats.ts'

const FILE = makeFirmware('v2', 100_000)
const digest = (algorithm: string, bytes: Uint8Array = FILE) =>
  createHash(algorithm).update(bytes).digest('hex')

const closings: (() => void)[] = []
afterEach(() => {
  for (const close of closings.splice(0)) close()
})

/** Serves the file. `answer` gets each request with its number from 1, and returns true if it answered it itself. */
async function serve(
  answer?: (count: number, request: IncomingMessage, response: ServerResponse) => boolean,
) {
  const ranges: (string | undefined)[] = []
  const server = createServer((request, response) => {
    ranges.push(request.headers.range)
    if (answer?.(ranges.length, request, response)) return
    sendFile(request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closings.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, ranges }
}

function sendFile({ headers }: IncomingMessage, response: ServerResponse, etag = '"one"'): void {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? []
  response.setHeader('etag', etag)
  if (first === undefined) return void response.end(FILE)
  response.statusCode = 206
  response.setHeader('content-range', `bytes ${first}-${last}/${FILE.byteLength}`)
  response.end(FILE.subarray(Number(first), Number(last) + 1))
}

/** Breaks the connection after some bytes of the file. */
function sendPart(response: ServerResponse, bytes: number): void {
  response.writeHead(200, { etag: '"one"', 'content-length': FILE.byteLength })
  response.write(FILE.subarray(0, bytes), () => response.destroy())
}

function optionsFor(url: string, more: Partial<DownloadOptions> = {}) {
  const resumedAt: number[] = []
  let received = 0
  const options: DownloadOptions = {
    url: () => url,
    size: FILE.byteLength,
    signMethod: 'SHA256',
    chunkBytes: 0,
    bytesPerSecond: 0,
    cutAt: undefined,
    onBytes: async (bytes) => {
      received = bytes
    },
    onResume: () => resumedAt.push(received),
    stats: createStats(),
    gate: createGate(1),
    untilOnline: async () => {},
    signal: new AbortController().signal,
    sleep: async () => {},
    ...more,
  }
  return { options, resumedAt }
}

const faultOf = async (download: Promise<unknown>) => {
  const error = await download.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(UpgradeFault)
  return error as UpgradeFault
}

const downloadDigest = async (options: DownloadOptions) => (await downloadDigests(options)).sign

it('a download returns the digest by the method of the notice, and the SHA-256 besides', async () => {
  const { url } = await serve()
  expect(await downloadDigest(optionsFor(url).options)).toBe(digest('sha256'))
  const digests = await downloadDigests(optionsFor(url, { signMethod: 'MD5' }).options)
  expect(digests).toEqual({ sign: digest('md5'), sha256: digest('sha256') })
})

it('a download with a planned cut goes on from there', async () => {
  const { url, ranges } = await serve()
  const { options, resumedAt } = optionsFor(url, { cutAt: 50_000 })
  expect(await downloadDigest(options)).toBe(digest('sha256'))
  expect(ranges).toEqual([undefined, 'bytes=50000-99999'])
  expect(resumedAt).toEqual([50_000])
  expect(options.stats.counts.downloadedBytes).toBe(FILE.byteLength)
})

it('a download resumes after the server broke the connection', async () => {
  const { url, ranges } = await serve((count, _request, response) => {
    if (count === 1) sendPart(response, 30_000)
    return count === 1
  })
  const { options, resumedAt } = optionsFor(url)
  expect(await downloadDigest(options)).toBe(digest('sha256'))
  expect(resumedAt).toHaveLength(1)
  expect(ranges[1]).toBe(`bytes=${resumedAt[0]}-99999`)
})

it('a download resumes with the newest link', async () => {
  const old = await serve()
  const fresh = await serve()
  let used = 0
  const { options } = optionsFor('', { cutAt: 50_000, url: () => (used++ === 0 ? old.url : fresh.url) })
  expect(await downloadDigest(options)).toBe(digest('sha256'))
  expect(fresh.ranges).toEqual(['bytes=50000-99999'])
})

it('a download can go in pieces', async () => {
  const { url, ranges } = await serve()
  expect(await downloadDigest(optionsFor(url, { chunkBytes: 40_000 }).options)).toBe(digest('sha256'))
  expect(ranges).toEqual(['bytes=0-39999', 'bytes=40000-79999', 'bytes=80000-99999'])
})

it('a download fails with −2 if the file has changed meanwhile', async () => {
  const { url } = await serve((count, request, response) => {
    if (count === 2) sendFile(request, response, '"two"')
    return count === 2
  })
  const fault = await faultOf(downloadDigest(optionsFor(url, { cutAt: 50_000 }).options))
  expect(fault).toMatchObject({ step: -2, message: expect.stringContaining('changed') })
})

it('a download fails with −2 if the answer has another range', async () => {
  const { url } = await serve((count, _request, response) => {
    if (count === 1) return false
    response.writeHead(206, { etag: '"one"', 'content-range': 'bytes 0-99999/100000' })
    response.end(FILE)
    return true
  })
  const fault = await faultOf(downloadDigest(optionsFor(url, { cutAt: 50_000 }).options))
  expect(fault).toMatchObject({ step: -2, message: expect.stringContaining('range') })
})

it('a download fails with −2 if the whole file comes instead of a range', async () => {
  const { url } = await serve((_count, _request, response) => {
    response.setHeader('etag', '"one"')
    response.end(FILE)
    return true
  })
  const fault = await faultOf(downloadDigest(optionsFor(url, { cutAt: 50_000 }).options))
  expect(fault).toMatchObject({ step: -2, message: expect.stringContaining('200') })
})

it('a download fails with −2 at once if the link has expired', async () => {
  const { url, ranges } = await serve((_count, _request, response) => {
    response.writeHead(403).end()
    return true
  })
  const fault = await faultOf(downloadDigest(optionsFor(url).options))
  expect(fault).toMatchObject({ step: -2, message: expect.stringContaining('403') })
  expect(ranges).toHaveLength(1)
})

it('a download tries again if the server is overloaded, and gives up in the end', async () => {
  const { url, ranges } = await serve((count, _request, response) => {
    if (count < 3) response.writeHead(503).end()
    return count < 3
  })
  expect(await downloadDigest(optionsFor(url).options)).toBe(digest('sha256'))
  expect(ranges).toHaveLength(3)

  const down = await serve((_count, _request, response) => {
    response.writeHead(503).end()
    return true
  })
  expect(await faultOf(downloadDigest(optionsFor(down.url).options))).toMatchObject({ step: -2 })
})

it('a download fails with −2 if there are more bytes than the notice says', async () => {
  const { url } = await serve()
  const fault = await faultOf(downloadDigest(optionsFor(url, { size: FILE.byteLength - 1 }).options))
  expect(fault.step).toBe(-2)
})

it('a link is checked with one byte', async () => {
  const { url, ranges } = await serve()
  await checkLink(optionsFor(url).options)
  expect(ranges).toEqual(['bytes=0-0'])
  const fault = await faultOf(checkLink(optionsFor(url, { size: 5 }).options))
  expect(fault.step).toBe(-2)
})

it('a stopped download ends with the reason of the stop', async () => {
  const { url } = await serve(() => true) // never answers
  const ending = new AbortController()
  const { options } = optionsFor(url, { signal: ending.signal })
  const download = downloadDigest(options)
  ending.abort(new Error('stopped'))
  await expect(download).rejects.toThrow('stopped')
})
