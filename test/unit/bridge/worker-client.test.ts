import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it, vi } from 'vitest'
import { createWorkerClient } from '../../../bridge/worker-client.ts'

let server: Server
afterEach(() => {
  vi.useRealTimers()
  server.closeAllConnections()
  server.close()
})

async function clientOf(answer: RequestListener) {
  server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return createWorkerClient({
    workerUrl: `http://127.0.0.1:${port}`,
    bridgeKey: 'x',
    requestTimeoutMs: 60_000,
  })
}

it('an answer without end is given up, and is no answer', async () => {
  let open = 0
  const client = await clientOf((_request, response) => {
    open++
    response.once('close', () => open--)
    const write = () => {
      while (!response.destroyed && response.write(' '.repeat(1_000_000)));
    }
    response.on('drain', write)
    write()
  })
  expect((await client.postBatch('{}')).kind).toBe('failed')
  expect(await client.readCredentialsPage(undefined, AbortSignal.timeout(60_000))).toBeUndefined()
  expect(await client.maySubscribe({ username: 'a', clientid: 'b', topic: 'c' })).toBe('unavailable')
  await vi.waitFor(() => expect(open).toBe(0))
})

it('a date in Retry-After counts from the answer, not from the clock of this machine', async () => {
  const now = Date.UTC(2026, 0, 2)
  const client = await clientOf((_request, response) => {
    response.sendDate = false
    const dates = { date: new Date(now).toUTCString(), 'retry-after': new Date(now + 90_000).toUTCString() }
    response.writeHead(503, dates).end()
  })
  for (const hours of [0, 5, -9]) {
    vi.useFakeTimers({ toFake: ['Date'] })
    vi.setSystemTime(now + hours * 3_600_000)
    expect(await client.postBatch('{}')).toEqual({
      kind: 'failed',
      reason: 'status 503',
      retryAfterMs: 90_000,
    })
  }
})
