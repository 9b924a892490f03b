import { exports } from 'cloudflare:workers'
import type { RawAnswer } from './answers.ts'
import type { Operation } from './document.ts'
import { callerOf, type Fixture } from './fixture.ts'
import { type HostileSketch, toText } from './hostile.ts'

type Worker = Pick<Fetcher, 'fetch'>
let sent = 0

/** The request; undefined for one that no client can make. */
export function toRequest(
  operation: Operation,
  sketch: HostileSketch,
  fixture: Fixture,
): Request | undefined {
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name) => encode(sketch.path[name] ?? 'x'))
  const query = sketch.query.map((pair) => pair.map(encode).join('=')).join('&')
  const { body } = sketch
  const headers = new Headers({
    authorization: `Bearer ${fixture.keys[callerOf(operation.path)]}`,
    // Each from an address of its own: what is tested here is not the limit.
    'cf-connecting-ip': `10.${(sent >> 16) & 255}.${(sent >> 8) & 255}.${sent++ & 255}`,
  })
  try {
    for (const [name, value] of Object.entries(sketch.headers)) {
      // Whatever asks for a WebSocket goes out as a GET.
      if (name !== 'upgrade' || operation.method === 'GET') headers.set(name, value)
    }
    return new Request(`http://edge-ota.test${path}${query && `?${query}`}`, {
      method: operation.method,
      headers,
      ...(operation.method !== 'GET' &&
        body !== undefined && {
          body: body instanceof Uint8Array || typeof body === 'string' ? body : toText(sketch),
        }),
    })
  } catch {
    return undefined
  }
}

/** A lone surrogate cannot be in a URL. A path of dots would be another path. */
const encode = (text: string) => encodeURIComponent(text.toWellFormed()).replace(/^\.{1,2}$/, 'dots') || '%20'

export async function send(request: Request, worker: Worker = exports.default): Promise<RawAnswer> {
  const response = await worker.fetch(request)
  response.webSocket?.accept()
  response.webSocket?.close()
  const [type = ''] = (response.headers.get('content-type') ?? '').split(';')
  return { status: response.status, type, text: await response.text() }
}
