import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import type { TestProject } from 'vitest/node'
import { newSigningKey, signText } from '../../openssl.ts'

declare module 'vitest' {
  interface ProvidedContext {
    opensslUrl: string
  }
}

/**
 * Vitest's global setup: OpenSSL for tests in workerd, which cannot start a process. `POST /key` makes a key and returns
 * `{id, publicKey}`; `POST /sign/{id}` signs the body with it.
 */
export default async function setup({ provide }: TestProject): Promise<() => void> {
  const pems: string[] = []
  const server = createServer(async (request, response) => {
    const [, what, id] = request.url!.split('/')
    const body = await text(request)
    if (what === 'sign') response.end(signText(pems[Number(id)]!, body))
    else {
      const { pem, publicKey } = newSigningKey()
      response.end(JSON.stringify({ id: pems.push(pem) - 1, publicKey }))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  provide('opensslUrl', `http://127.0.0.1:${(server.address() as { port: number }).port}`)
  return () => {
    server.closeAllConnections()
    server.close()
  }
}
