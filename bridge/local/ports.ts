import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'

const REASONS: Record<string, string> = {
  EADDRINUSE: 'is taken by another program',
  EACCES: 'may not be opened by this user',
  EADDRNOTAVAIL: 'cannot be opened: this machine does not have that address',
}

/** A port of this machine that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Throws if nothing can listen there; the error names the variable to change. */
export async function checkPort(host: string, port: number, variable: string): Promise<void> {
  const server = createServer()
  try {
    server.listen(port, host)
    await once(server, 'listening')
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const reason = REASONS[code] ?? `cannot be opened (${code})`
    throw new Error(`Port ${port} on ${host} ${reason}. Set ${variable} to use another one.`)
  } finally {
    server.close()
  }
}
