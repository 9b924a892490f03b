import { once } from 'node:events'
import { createServer } from 'node:net'

const REASONS: Record<string, string> = {
  EADDRINUSE: 'is taken by another program',
  EACCES: 'may not be opened by this user',
  EADDRNOTAVAIL: 'cannot be opened: this machine does not have that address',
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
