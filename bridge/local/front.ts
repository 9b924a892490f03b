import { once } from 'node:events'
import { Agent, createServer, type IncomingMessage, type RequestOptions, request } from 'node:http'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream'
import { isLoopback } from '../../src/protocol/loopback.ts'

// `wrangler dev` serves its developer's tools beside the Worker: D1 and the bucket, to read and to write. It tells by the
// Host header, which anybody can write, who may use them. So if other machines are to reach the Worker, wrangler listens
// on loopback alone, and this stands in front of it.

export interface Front {
  close(): void
}

/** Paths that the Worker does not have: they would reach wrangler's tools. */
const TOOLS = /^\/(cdn-cgi|__cf_local)(\/|$)/
/** Headers by which wrangler's own parts speak to each other, and those that Cloudflare sets. */
const RESERVED = /^(mf|cf)-/
/** An idle connection is given up before the Worker would close it, perhaps just when the next request is sent. */
const IDLE_MS = 2_000
/** They concern one connection only. */
const OF_CONNECTION = ['connection', 'keep-alive', 'proxy-connection', 'expect']

/** Passes requests and WebSockets on to the Worker at `port` of this machine. Rejects if it cannot listen. */
export async function startFront(options: {
  host: string
  port: number
  workerPort: number
}): Promise<Front> {
  // Kept alive, since a Worker that closes after its answer may cut off one that came before the end of the body.
  const agent = new Agent({ keepAlive: true, timeout: IDLE_MS })

  /** The same request to the Worker; undefined if it is none for the Worker. */
  function onward(from: IncomingMessage): RequestOptions | undefined {
    const target = from.url ?? ''
    // Only now `..` and the like are resolved, so what is looked at is what the Worker gets.
    const url =
      target.startsWith('/') && URL.canParse(`http://front${target}`) && new URL(`http://front${target}`)
    if (!url || TOOLS.test(url.pathname)) return undefined
    const headers = Object.fromEntries(
      Object.entries(from.headers).filter(([name]) => !RESERVED.test(name) && !OF_CONNECTION.includes(name)),
    )
    const peer = (from.socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    // A proxy on this machine names its own client in this header.
    const client = (isLoopback(peer) && from.headers['cf-connecting-ip']) || peer
    return {
      host: '127.0.0.1',
      port: options.workerPort,
      agent,
      method: from.method,
      path: url.pathname + url.search,
      headers: { ...headers, 'cf-connecting-ip': client },
    }
  }

  // A large upload may take long, so only its headers have a time limit.
  const server = createServer({ requestTimeout: 0 }, (from, to) => {
    const options = onward(from)
    if (!options) {
      to.writeHead(404).end()
      return
    }
    const passed = request(options, (answer) => {
      const { connection: _, 'keep-alive': __, ...headers } = answer.headers
      to.writeHead(answer.statusCode ?? 502, headers)
      pipeline(answer, to, () => {})
    })
    // An error after the answer began is no matter: the Worker need not read a body that it refuses.
    passed.on('error', () => {
      if (!to.headersSent) to.writeHead(503, { 'retry-after': '5' }).end()
    })
    to.once('close', () => passed.destroy())
    from.pipe(passed)
  })
  server.on('upgrade', (from, socket, head) => {
    socket.on('error', () => socket.destroy())
    const options = onward(from)
    if (!options) {
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n')
      return
    }
    const headers = { ...options.headers, connection: 'Upgrade' }
    const passed = request({ ...options, headers })
    passed.on('upgrade', (answer, worker, first) => {
      socket.write(headOf(answer))
      socket.write(first)
      worker.write(head)
      join(socket, worker)
    })
    passed.on('response', (answer) => {
      socket.write(headOf(answer))
      pipeline(answer, socket, () => {})
    })
    passed.on('error', () => socket.destroy())
    passed.end()
  })
  server.listen(options.port, options.host)
  await once(server, 'listening')

  return {
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}

function join(one: Duplex, other: Duplex): void {
  pipeline(one, other, one, () => {
    one.destroy()
    other.destroy()
  })
}

function headOf({ statusCode, statusMessage, rawHeaders }: IncomingMessage): string {
  const isSwitching = statusCode === 101
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`]
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    // The body goes on as it was read, without chunks, until the connection ends.
    if (isSwitching || !/^(connection|keep-alive|transfer-encoding)$/i.test(name)) {
      lines.push(`${name}: ${rawHeaders[at + 1]}`)
    }
  }
  if (!isSwitching) lines.push('Connection: close')
  return `${lines.join('\r\n')}\r\n\r\n`
}
