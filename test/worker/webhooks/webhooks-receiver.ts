import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import type { TestProject } from 'vitest/node'

/** What the receiver does with one request. When its script is used up it answers 204. */
export interface Scripted {
  status?: number
  headers?: Record<string, string>
  body?: string
  /** `at once`: no answer at all. `in the body`: no end after the beginning of the body. */
  hangs?: 'at once' | 'in the body'
}

export interface Received {
  path: string
  headers: IncomingHttpHeaders
  body: string
}

declare module 'vitest' {
  interface ProvidedContext {
    receiverUrl: string
  }
}

/**
 * A real HTTP server that takes webhooks at `POST /hook/{name}`. `PUT /script/{name}` sets the next answers, and
 * `GET /received/{name}` returns the requests that came.
 */
export async function startReceiver() {
  const scripts = new Map<string, Scripted[]>()
  const received = new Map<string, Received[]>()
  const receivedBy = (name: string) => received.get(name) ?? []
  const server = createServer(async (request, response) => {
    const [, what, name = ''] = request.url!.split('/')
    const body = await text(request)
    if (what === 'script') scripts.set(name, JSON.parse(body))
    else if (what === 'received') response.write(JSON.stringify(receivedBy(name)))
    else {
      received.set(name, [...receivedBy(name), { path: request.url!, headers: request.headers, body }])
      answer(response, scripts.get(name)?.shift() ?? { status: 204 })
      return
    }
    response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${port}`,
    script: (name: string, answers: Scripted[]) => void scripts.set(name, answers),
    received: receivedBy,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

function answer(response: ServerResponse, { status = 200, headers = {}, body = '', hangs }: Scripted): void {
  if (hangs === 'at once') return
  response.writeHead(status, headers)
  if (hangs === 'in the body') response.write(body)
  else response.end(body)
}

/** Vitest's global setup: starts the receiver for tests in workerd, which cannot open a port themselves. */
export default async function setup({ provide }: TestProject): Promise<() => void> {
  const receiver = await startReceiver()
  provide('receiverUrl', receiver.url)
  return receiver.close
}
