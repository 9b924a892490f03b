import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Registry } from 'prom-client'

/** The state of one part of the bridge. Further fields go into the response as they are. */
export interface PartHealth {
  state: string
  [detail: string]: unknown
}

/**
 * `error`: no message can be taken in, and a person must act. `degraded`: some other part is away or full; messages are
 * kept meanwhile, and a restart would not help.
 */
export type HealthStatus = 'ok' | 'degraded' | 'error'

export interface HealthReport {
  status: HealthStatus
  parts: Record<string, PartHealth>
}

export interface HealthSources {
  report(): HealthReport
  metrics: Registry
}

export interface HealthServer {
  port: number
  /** Until this is called, /healthz says that the bridge waits for its disk. */
  setSources(sources: HealthSources): void
  close(): Promise<void>
}

/** States are read this often, so that the `since` of a part is exact to this. */
const LOOK_EVERY_MS = 1_000

/**
 * Serves `GET /healthz` (503 only for `error`) and `GET /metrics`. It starts before all other parts, since a full disk
 * holds those up.
 */
export async function startHealthServer(options: {
  host: string
  /** 0: any free port. */
  port: number
}): Promise<HealthServer> {
  const since = new Date().toISOString()
  const waiting: HealthReport = { status: 'error', parts: { spool: { state: 'disk_error', since } } }
  let sources: HealthSources | undefined

  function report(): HealthReport {
    try {
      return sources?.report() ?? waiting
    } catch {
      // The spool's disk cannot be read.
      return waiting
    }
  }
  const looking = setInterval(report, LOOK_EVERY_MS)
  looking.unref()

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, type: string, text: string) =>
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(text)
    if (request.method !== 'GET' && request.method !== 'HEAD') send(405, 'text/plain', 'GET only\n')
    else if (request.url === '/healthz') {
      const { status, parts } = report()
      const text = `${JSON.stringify({ status, ...parts })}\n`
      send(status === 'error' ? 503 : 200, 'application/json', text)
    } else if (request.url === '/metrics' && sources) {
      const { metrics } = sources
      send(200, metrics.contentType, await metrics.metrics())
    } else send(request.url === '/metrics' ? 503 : 404, 'text/plain', 'nothing here\n')
  }
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.writeHead(503).end())
  })
  server.listen(options.port, options.host)
  await once(server, 'listening')

  return {
    port: (server.address() as AddressInfo).port,
    setSources(given) {
      sources = given
      report()
    },
    async close() {
      clearInterval(looking)
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Remembers the state of each part; the function returns since when it is in that state, in ISO 8601. */
export function createSince(): (part: string, state: string) => string {
  const known = new Map<string, { state: string; since: string }>()
  return (part, state) => {
    const before = known.get(part)
    if (before?.state === state) return before.since
    const since = new Date().toISOString()
    known.set(part, { state, since })
    return since
  }
}
