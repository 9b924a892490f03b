import { createServer, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { GREETING } from './script.ts'

/** A proxy between bridge and Worker that records every device message that the Worker answered as taken. */
export interface Tap {
  url: string
  /** For each username, how often each mark was taken; marks are in the order in which they were last taken. */
  taken: Map<string, Map<string, number>>
  /** The number of taken messages of all devices, each counted once. */
  count: number
  close(): Promise<void>
}

interface Item {
  id: string
  kind: string
  username?: string
  payload?: string
}

export async function startTap(worker: URL): Promise<Tap> {
  const taken: Tap['taken'] = new Map()
  const tap: Tap = { url: '', taken, count: 0, close }

  function note(sent: Buffer, answer: Buffer): void {
    const { items } = JSON.parse(sent.toString()) as { items: Item[] }
    const { results } = JSON.parse(answer.toString()) as { results: { id: string; status: string }[] }
    const statuses = new Map(results.map(({ id, status }) => [id, status]))
    for (const { id, kind, username = '', payload = '' } of items) {
      if (kind !== 'message' || statuses.get(id) !== 'taken') continue
      const said = JSON.parse(Buffer.from(payload, 'base64').toString())
      const mark: string = said.desc ?? said.id
      if (mark === GREETING) continue
      const marks = taken.get(username) ?? new Map<string, number>()
      taken.set(username, marks)
      const times = marks.get(mark) ?? 0
      marks.delete(mark)
      marks.set(mark, times + 1)
      if (times === 0) tap.count++
    }
  }

  /** Functions that end the upgraded sockets, which `closeAllConnections` does not reach. */
  const open = new Set<() => void>()

  async function forward(incoming: IncomingMessage): Promise<{ status: number; type: string; body: Buffer }> {
    const sent = await buffer(incoming)
    // Without compression, so that the answer can be read here.
    const { 'accept-encoding': _, ...headers } = incoming.headers
    return new Promise((resolve, reject) => {
      const outgoing = request(
        new URL(incoming.url ?? '/', worker).href,
        { method: incoming.method ?? 'GET', headers: { ...headers, host: worker.host } },
        (response) => {
          buffer(response).then((body) => {
            if (incoming.url === '/bridge/v1/messages' && response.statusCode === 200) note(sent, body)
            resolve({
              status: response.statusCode ?? 502,
              type: response.headers['content-type'] ?? '',
              body,
            })
          }, reject)
        },
      )
      outgoing.on('error', reject)
      outgoing.end(sent)
    })
  }

  const server = createServer((incoming, response) => {
    forward(incoming).then(
      ({ status, type, body }) => response.writeHead(status, { 'content-type': type }).end(body),
      () => response.destroy(),
    )
  })
  server.on('upgrade', (incoming, socket, head) => {
    const outgoing = connect(Number(worker.port), worker.hostname)
    const end = () => {
      socket.destroy()
      outgoing.destroy()
      open.delete(end)
    }
    open.add(end)
    outgoing.on('error', end).on('close', end)
    socket.on('error', end).on('close', end)
    const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`]
    for (let at = 0; at < incoming.rawHeaders.length; at += 2) {
      lines.push(`${incoming.rawHeaders[at]}: ${incoming.rawHeaders[at + 1]}`)
    }
    outgoing.write(`${lines.join('\r\n')}\r\n\r\n`)
    outgoing.write(head)
    socket.pipe(outgoing).pipe(socket)
  })
  async function close(): Promise<void> {
    for (const end of open) end()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  tap.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return tap
}
