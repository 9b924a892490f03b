import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { AppError, notFound, TASK_IS_GONE, unavailable } from '../common/errors.ts'
import { errorFields, logError, logWarning } from '../common/log.ts'
import { platformFault } from '../common/platform-faults.ts'
import type { AppEnv } from './principal.ts'

const TITLES: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  409: 'Conflict',
  410: 'Gone',
  411: 'Length Required',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
}

/** Codes for the errors that Hono and its validators throw. */
const CODES: Record<number, string> = {
  400: 'request.malformed',
  413: 'request.too_large',
  415: 'request.media_type',
}

/**
 * The error as the client may see it (src/http/README.md#errors): a client's fault as it is, what the platform lost or
 * refused for now as a 503, anything else, a bug, as a 500. Of the last two the cause goes into the log only, with `fields`.
 */
export function toAppError(error: unknown, code: string, fields: Record<string, unknown>): AppError {
  if (error instanceof AppError) return error
  if (error instanceof Error && error.message === TASK_IS_GONE) return notFound('task')
  const fault = platformFault(error)
  const log = fault === null ? logError : logWarning
  log(fault === null ? code : 'platform.unavailable', { ...fields, ...errorFields(error) })
  return fault === null ? new AppError(500, 'internal', 'Something went wrong here.') : unavailable(fault)
}

/** The one error handler: every error becomes problem+json. */
export function onError(error: Error, c: Context<AppEnv>): Response {
  if (error instanceof HTTPException && error.status < 500) {
    const code = CODES[error.status] ?? 'request.refused'
    return problemResponse(
      new AppError(error.status, code, error.message || TITLES[error.status]!),
      c.req.path,
    )
  }
  return problemResponse(
    toAppError(error, 'internal', { method: c.req.method, path: c.req.path }),
    c.req.path,
  )
}

export const onNotFound = (c: Context<AppEnv>): Response =>
  problemResponse(new AppError(404, 'route.not_found', 'There is nothing at this address.'), c.req.path)

function problemResponse(error: AppError, path: string): Response {
  const { status, code, message: detail, errors, retryAfterSeconds } = error
  const headers = new Headers({ 'content-type': 'application/problem+json' })
  if (retryAfterSeconds !== undefined) headers.set('retry-after', String(retryAfterSeconds))
  if (status === 426) headers.set('upgrade', 'websocket')
  if (status === 401) {
    // Devices may have Basic credentials; keys are bearer tokens only.
    headers.set('www-authenticate', path.startsWith('/device/') ? 'Bearer, Basic realm="edge-ota"' : 'Bearer')
  }
  const body = { type: 'about:blank', title: TITLES[status] ?? 'Error', status, detail, code, errors }
  return new Response(JSON.stringify(body), { status, headers })
}
