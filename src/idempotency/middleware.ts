import type { HonoRequest, MiddlewareHandler } from 'hono'
import { bearerKey } from '../auth/middleware.ts'
import { AppError, conflict, invalid } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import { retried } from '../common/retries.ts'
import { openDb } from '../db/client.ts'
import type { AppEnv } from '../http/principal.ts'
import { hashRequest, seal, unseal } from './seal.ts'
import { claimRequest, keepAnswer, releaseClaim } from './store.ts'

const MAX_KEY_LENGTH = 255
const RETRY_AFTER_SECONDS = 5
/** A row of D1 holds 2 MB, and a sealed answer is a third longer. One beyond this is not kept: a repeat is done again. */
const MAX_ANSWER_BYTES = 1_000_000

/**
 * A POST with an `Idempotency-Key` gets the same answer when it is sent again within 24 hours
 * (src/http/README.md#repeats). Files are exempt: an import or upload is repeatable by itself. Answers that say "try
 * again" (429, 5xx) are not kept.
 */
export const idempotency: MiddlewareHandler<AppEnv> = async (c, next) => {
  const idempotencyKey = c.req.header('idempotency-key')
  if (c.req.method !== 'POST' || idempotencyKey === undefined) return next()
  if (!isJson(c.req.header('content-type') ?? '') && hasBody(c.req)) return next()
  if (idempotencyKey === '' || idempotencyKey.length > MAX_KEY_LENGTH) {
    throw invalid([{ path: 'Idempotency-Key', message: `must be 1 to ${MAX_KEY_LENGTH} characters` }])
  }
  const { keyId } = c.var.principal
  const { pathname, search } = new URL(c.req.url)
  const apiKey = bearerKey(c)
  const requestHash = await hashRequest(apiKey ?? keyId, 'POST', pathname + search, await c.req.text())
  // A form of the console is sent again under its key when it was corrected: that is another request.
  const claimed = apiKey === undefined ? `${idempotencyKey}\n${requestHash}` : idempotencyKey
  const db = openDb(c.env.DB)
  const { claim, earlier } = await claimRequest(
    db,
    { apiKeyId: keyId, idempotencyKey: claimed, requestHash },
    Date.now(),
  )
  if (earlier && earlier.requestHash !== requestHash) {
    throw conflict('idempotency.conflict', 'This Idempotency-Key was used for another request.')
  }
  if (earlier?.status === null) throw inFlight()
  if (earlier?.status && apiKey !== undefined) {
    return replay(earlier.status, await unseal(apiKey, idempotencyKey, earlier.body ?? ''))
  }
  // After 24 hours the key may be used anew, also for the same request: that is no repeat any more.
  const { createdAt } = earlier ?? claim
  c.set('repeat', { seed: [keyId, idempotencyKey, requestHash].join('\n'), at: createdAt })
  // A session of the console has no secret to keep an answer under: the request is done again, and makes nothing twice.
  if (earlier) return next()
  await next()
  const { status } = c.res
  const body = await c.res.clone().text()
  const bytes = new TextEncoder().encode(body).length
  const isKept = status < 500 && status !== 429 && bytes <= MAX_ANSWER_BYTES
  const sealed = isKept && apiKey !== undefined ? await seal(apiKey, idempotencyKey, body) : ''
  try {
    await retried(async () => {
      await (isKept ? keepAnswer(db, claim, status, sealed) : releaseClaim(db, claim))
    })
  } catch (error) {
    // The request was done: an error in place of its answer would have it done again.
    logError('idempotency.not_kept', errorFields(error))
  }
}

export const isJson = (contentType: string) => /^application\/([\w.-]+\+)?json\b/i.test(contentType)

const hasBody = (request: HonoRequest) =>
  request.raw.body !== null && request.header('content-length') !== '0'

const inFlight = () =>
  new AppError(
    409,
    'idempotency.in_flight',
    'The first request with this Idempotency-Key is still under way.',
    {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
    },
  )

function replay(status: number, body: string): Response {
  const type = status >= 400 ? 'application/problem+json' : 'application/json'
  const headers = { 'idempotency-replayed': 'true', ...(body !== '' && { 'content-type': type }) }
  return new Response(body === '' ? null : body, { status, headers })
}
