import type { Context, MiddlewareHandler } from 'hono'
import { AppError } from '../common/errors.ts'
import { logError } from '../common/log.ts'
import { publishedSecrets } from '../common/published-secrets.ts'
import { isLoopback, isLoopbackUrl } from '../protocol/loopback.ts'
import type { AppEnv } from './principal.ts'

/** A client that does not give up would fill the log. */
const LOG_EVERY_MS = 60_000
const RETRY_SECONDS = 60

let quietUntil = 0

/**
 * Refuses everything while a secret has its public value: a stranger could make download links and sessions with it,
 * without one request. Only the developer's own machine is served so.
 */
export const refusePublishedSecrets: MiddlewareHandler<AppEnv> = async (c, next) => {
  const names = publishedSecrets(c.env)
  if (names.length === 0 || isOnOwnMachine(c)) return next()
  const now = Date.now()
  if (now >= quietUntil) {
    quietUntil = now + LOG_EVERY_MS
    logError('secrets.published', { names })
  }
  throw new AppError(
    503,
    'secrets.published',
    `This installation still has secrets of its public example: ${names.join(', ')}. Set each of them (wrangler secret put) and delete its line in wrangler.toml.`,
    { retryAfterSeconds: RETRY_SECONDS },
  )
}

/** The host that is asked for, the client and the configured address must all be this machine. */
function isOnOwnMachine(c: Context<AppEnv>): boolean {
  const client = c.req.header('cf-connecting-ip')
  return (
    isOwnName(new URL(c.req.url).hostname) &&
    (client === undefined || isLoopback(client)) &&
    (!c.env.PUBLIC_URL || isLoopbackUrl(c.env.PUBLIC_URL))
  )
}

/** Names that end with `.test` belong to nobody (RFC 6761): no request from outside comes by one. */
const isOwnName = (hostname: string) => isLoopback(hostname) || hostname.endsWith('.test')
