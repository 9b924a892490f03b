import { Webhook as Signer } from 'standardwebhooks'
import { type AddressRules, readAddress } from './address.ts'
import { readRetryAfter } from './backoff.ts'
import type { Outcome } from './delivery.ts'

export const TIMEOUT_MS = 10_000
export const MAX_ANSWER_BYTES = 1024
const MAX_ERROR_LENGTH = 200
/** "I am gone, send no more" (Standard Webhooks). */
export const GONE = 410

export interface Message {
  id: string
  body: string
}

/**
 * One try: a signed POST, as the Standard Webhooks specification says. 2xx delivers; a redirect is not followed and
 * is a failure like any other. Never throws. The timestamp is that of this try, so that a receiver can refuse old ones.
 */
export async function send(
  webhook: { url: string; secret: string },
  message: Message,
  rules: AddressRules,
  timeoutMs = TIMEOUT_MS,
): Promise<Outcome> {
  const failed = (error: string, isFinal = false): Outcome => ({
    status: null,
    error: error.slice(0, MAX_ERROR_LENGTH),
    answer: null,
    retryAfterMs: null,
    isFinal,
  })
  // Checked here, too: the installation's rules may have changed since the address was entered.
  const address = readAddress(webhook.url, rules)
  if ('fault' in address) return failed(`the address ${address.fault}`, true)
  try {
    const response = await fetch(address.url, {
      method: 'POST',
      headers: signedHeaders(webhook.secret, message),
      body: message.body,
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    })
    return {
      status: response.status,
      error: response.ok ? null : `the receiver answered ${response.status}`,
      answer: await readBeginning(response),
      retryAfterMs: readRetryAfter(response.headers.get('retry-after'), Date.now()),
      isFinal: response.status === GONE,
    }
  } catch (error) {
    const { name, message: text } = error instanceof Error ? error : { name: '', message: String(error) }
    return failed(
      name === 'TimeoutError' ? `no answer within ${timeoutMs / 1000} s` : `no connection: ${text}`,
    )
  }
}

function signedHeaders(secret: string, { id, body }: Message): Record<string, string> {
  const now = new Date(Date.now())
  return {
    'content-type': 'application/json',
    'user-agent': 'edge-ota',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now.getTime() / 1000)),
    'webhook-signature': new Signer(secret).sign(id, now, body),
  }
}

/** The first bytes of an answer as text; no more are read. An answer that breaks off ends there. */
async function readBeginning({ body }: Response): Promise<string> {
  const kept = new Uint8Array(MAX_ANSWER_BYTES)
  let length = 0
  const reader = body?.getReader()
  try {
    while (reader && length < MAX_ANSWER_BYTES) {
      const { done, value } = await reader.read()
      if (done) break
      const part = value.subarray(0, MAX_ANSWER_BYTES - length)
      kept.set(part, length)
      length += part.byteLength
    }
  } catch {
    // The status has come, and only that counts.
  }
  await reader?.cancel().catch(() => {})
  return new TextDecoder().decode(kept.subarray(0, length))
}
