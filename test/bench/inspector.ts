import WebSocket from 'ws'

/** A connection to the Worker's debugger (Chrome DevTools Protocol). */
export interface Inspector {
  call(method: string, params?: object): Promise<unknown>
  close(): void
}

export async function inspect(port: number): Promise<Inspector> {
  const targets = (await (await fetch(`http://127.0.0.1:${port}/json`)).json()) as {
    webSocketDebuggerUrl: string
  }[]
  const socket = new WebSocket(targets[0]!.webSocketDebuggerUrl, { maxPayload: 1 << 30 })
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  const answers = new Map<number, (result: unknown) => void>()
  socket.on('message', (data) => {
    const { id, result } = JSON.parse(String(data)) as { id?: number; result: unknown }
    if (id === undefined) return
    answers.get(id)?.(result)
    answers.delete(id)
  })
  let last = 0
  return {
    call: (method, params = {}) =>
      new Promise((resolve) => {
        answers.set(++last, resolve)
        socket.send(JSON.stringify({ id: last, method, params }))
      }),
    close: () => socket.close(),
  }
}
