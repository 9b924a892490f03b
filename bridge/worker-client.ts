import { z } from 'zod'
import { type BatchAnswer, batchAnswer } from '../src/protocol/bridge.ts'
import { type FeedPage, feedPage } from '../src/protocol/credentials-feed.ts'

export type PostOutcome =
  | { kind: 'answered'; answer: BatchAnswer; arrivedAt: number }
  /** The Worker cannot read this batch, so it must not be sent again unchanged. */
  | { kind: 'refused'; status: number }
  | { kind: 'failed'; reason: string; retryAfterMs: number }

export type Decision = 'allow' | 'deny' | 'unavailable'

export interface AuthRequest {
  username: string
  password: string
  clientid: string
  peerhost: string
}
export interface AclRequest {
  username: string
  clientid: string
  topic: string
}

export interface WorkerClient {
  /** `body` is the whole batch as JSON text. Never throws. */
  postBatch(body: string, signal?: AbortSignal): Promise<PostOutcome>
  authenticate(request: AuthRequest): Promise<Decision>
  maySubscribe(request: AclRequest): Promise<Decision>
  /** Returns the page of the credentials feed after this cursor; undefined if that fails. Never throws. */
  readCredentialsPage(after: string | undefined, signal: AbortSignal): Promise<FeedPage | undefined>
}

const REFUSALS = [400, 413, 422]
const MAX_RETRY_AFTER_MS = 300_000
const DECISION_TIMEOUT_MS = 5_000
const PAGE_TIMEOUT_MS = 10_000
/** Far more than the largest answer that is one: a page of credentials. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024

const decision = z.object({ result: z.enum(['allow', 'deny']) })

/** Calls the Worker's endpoints for bridges and brokers (src/http/README.md#bridge-and-broker). */
export function createWorkerClient(options: {
  workerUrl: string
  bridgeKey: string
  requestTimeoutMs: number
}): WorkerClient {
  const headers = { authorization: `Bearer ${options.bridgeKey}`, 'content-type': 'application/json' }

  const post = (path: string, body: string, timeoutMs: number, signal?: AbortSignal) =>
    fetch(options.workerUrl + path, {
      method: 'POST',
      headers,
      body,
      redirect: 'error',
      signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]),
    })

  /** Anything but a clear yes or no is `unavailable`, on which the broker lets nobody in. */
  async function decide(path: string, request: object): Promise<Decision> {
    try {
      const response = await post(path, JSON.stringify(request), DECISION_TIMEOUT_MS)
      const body = decision.safeParse(await readJson(response))
      return response.ok && body.success ? body.data.result : 'unavailable'
    } catch {
      return 'unavailable'
    }
  }

  return {
    async postBatch(body, signal) {
      try {
        const response = await post('/bridge/v1/messages', body, options.requestTimeoutMs, signal)
        if (!response.ok) {
          await response.body?.cancel()
          if (REFUSALS.includes(response.status)) return { kind: 'refused', status: response.status }
          const retryAfterMs = retryAfter(response.headers)
          return { kind: 'failed', reason: `status ${response.status}`, retryAfterMs }
        }
        const answer = batchAnswer.safeParse(await readJson(response))
        return answer.success
          ? { kind: 'answered', answer: answer.data, arrivedAt: performance.now() }
          : { kind: 'failed', reason: 'an answer that is none', retryAfterMs: 0 }
      } catch (error) {
        return { kind: 'failed', reason: codeOf(error), retryAfterMs: 0 }
      }
    },
    authenticate: (request) => decide('/broker/v1/auth', request),
    maySubscribe: (request) => decide('/broker/v1/acl', { ...request, action: 'subscribe' }),
    async readCredentialsPage(after, signal) {
      const query = after === undefined ? '' : `?${new URLSearchParams({ after })}`
      try {
        const response = await fetch(`${options.workerUrl}/bridge/v1/credentials${query}`, {
          headers,
          redirect: 'error',
          signal: AbortSignal.any([AbortSignal.timeout(PAGE_TIMEOUT_MS), signal]),
        })
        const page = feedPage.safeParse(await readJson(response))
        return response.ok && page.success ? page.data : undefined
      } catch {
        return undefined
      }
    },
  }
}

/** The code or the name of an error; never its text, which may hold the address. */
function codeOf(error: unknown): string {
  const { name = 'error', cause } = error as { name?: string; cause?: { code?: unknown } }
  return typeof cause?.code === 'string' ? cause.code : name
}

/** Throws if the body is no JSON or too large to be read. */
async function readJson(response: Response): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > MAX_ANSWER_BYTES) throw new Error('too large')
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString())
}

/**
 * The header, in seconds or as a date → ms, at most five minutes; 0 if it is missing or unreadable. A date counts from
 * the answer's own: this machine's clock may be wrong.
 */
function retryAfter(headers: Headers): number {
  const header = headers.get('retry-after')
  if (header === null) return 0
  const ms = /^\d+$/.test(header)
    ? Number(header) * 1000
    : Date.parse(header) - Date.parse(headers.get('date') ?? '')
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS) : 0
}
