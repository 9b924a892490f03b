import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, it } from 'vitest'
import WebSocket, { WebSocketServer } from 'ws'
import { type Front, startFront } from '../../bridge/local/front.ts'
import { freePort } from '../../bridge/local/ports.ts'

let worker: Server
let front: Front
let url: string
let heard: IncomingMessage[]
beforeEach(async () => {
  heard = []
  worker = createServer(async (request, response) => {
    heard.push(request)
    // Refuses before the body has come.
    if (request.url === '/refuse') return void response.writeHead(401).end('no')
    const hash = createHash('sha256')
    for await (const chunk of request) hash.update(chunk)
    response.writeHead(200, { 'content-type': 'text/plain', 'x-digest': hash.digest('hex') })
    response.end(request.url)
  })
  worker.listen(0, '127.0.0.1')
  await once(worker, 'listening')
  const port = await freePort()
  front = await startFront({ host: '127.0.0.1', port, workerPort: (worker.address() as AddressInfo).port })
  url = `http://127.0.0.1:${port}`
})
afterEach(() => {
  front.close()
  worker.closeAllConnections()
  worker.close()
})

/** Sends these bytes as they are, and returns the first line of the answer. */
async function send(request: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.end(request)
  return (await text(socket)).split('\r\n')[0]!
}

it('paths and bodies reach the Worker as they are', async () => {
  const body = randomBytes(5_000_000)
  const response = await fetch(`${url}/a%2Fb/c?d=%20&e=%C3%A4`, { method: 'PUT', body })
  expect(await response.text()).toBe('/a%2Fb/c?d=%20&e=%C3%A4')
  expect(response.headers.get('x-digest')).toBe(createHash('sha256').update(body).digest('hex'))
})

it.each([
  '/cdn-cgi/local/explorer',
  '/cdn-cgi',
  '/x/../cdn-cgi/local/explorer',
  '/x/%2e%2e/cdn-cgi/local/explorer',
  '/x\\..\\cdn-cgi\\local',
  '/.//../cdn-cgi/local',
  '/__cf_local/stream',
  'http://127.0.0.1/cdn-cgi/local/explorer',
  '*',
])('%s never reaches the Worker, as a request or as a WebSocket', async (path) => {
  const host = 'Host: localhost\r\n'
  expect(await send(`GET ${path} HTTP/1.1\r\n${host}Connection: close\r\n\r\n`)).toMatch(/^HTTP\/1.1 40[04] /)
  const upgrade = 'Connection: Upgrade\r\nUpgrade: websocket\r\n'
  expect(await send(`GET ${path} HTTP/1.1\r\n${host}${upgrade}\r\n`)).toMatch(/^HTTP\/1.1 40[04] /)
  expect(heard).toEqual([])
})

const spoken = {
  'MF-Original-URL': 'http://localhost/cdn-cgi/local/explorer',
  'MF-Route-Override': 'x',
  'CF-Connecting-IP': '192.0.2.1',
  'CF-Ray': 'x',
  'X-Forwarded-Proto': 'https',
  Authorization: 'Bearer x',
}

it('nobody can speak as a part of wrangler; a proxy on this machine says for whom it asks', async () => {
  await fetch(`${url}/x`, { headers: spoken })
  const { headers } = heard[0]!
  expect(Object.keys(headers).filter((name) => /^(mf|cf)-/.test(name))).toEqual(['cf-connecting-ip'])
  expect(headers).toMatchObject({
    'cf-connecting-ip': '192.0.2.1',
    'x-forwarded-proto': 'https',
    authorization: 'Bearer x',
  })
  await fetch(`${url}/x`)
  expect(heard[1]!.headers['cf-connecting-ip']).toBe('127.0.0.1')
})

const networkAddress = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address

it.skipIf(networkAddress === undefined)('another machine has the address that it has', async () => {
  const port = await freePort()
  const open = await startFront({ host: '0.0.0.0', port, workerPort: (worker.address() as AddressInfo).port })
  await fetch(`http://${networkAddress}:${port}/x`, { headers: spoken })
  open.close()
  expect(heard[0]!.headers['cf-connecting-ip']).toBe(networkAddress)
})

it('a refusal arrives although the body was not sent yet', async () => {
  for (let tries = 0; tries < 5; tries++) {
    const head = `PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n`
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.on('error', () => {})
    socket.write(head)
    socket.write(Buffer.alloc(3_000_000))
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(answer.toString()).toMatch(/^HTTP\/1.1 401 /)
    socket.destroy()
  }
})

it('while the Worker is away a request is answered 503 with Retry-After', async () => {
  worker.close()
  await once(worker, 'close')
  const response = await fetch(`${url}/x`, { method: 'POST', body: 'x' })
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5'])
})

it('a WebSocket goes through both ways, with its end', async () => {
  const sockets = new WebSocketServer({ server: worker })
  sockets.on('connection', (socket) => {
    socket.send('welcome')
    socket.on('message', (data) => socket.send(`echo ${data}`))
  })
  const client = new WebSocket(`${url.replace('http', 'ws')}/socket`)
  const got: string[] = []
  client.on('message', (data) => got.push(String(data)))
  await once(client, 'open')
  client.send('one')
  await expect.poll(() => got).toEqual(['welcome', 'echo one'])
  for (const socket of sockets.clients) socket.close(1012, 'bye')
  const [code] = await once(client, 'close')
  expect(code).toBe(1012)
})
