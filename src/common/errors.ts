import type { PlatformFault } from './platform-faults.ts'

const RETRY_AFTER_SECONDS: Record<PlatformFault, number> = { lost: 2, overloaded: 10 }

/** One fault in a readable body: where it is and what is wrong with it. */
export interface FieldError {
  path: string
  message: string
}

/** An error that the client caused or can act on. Everything else is a 500 without its text. */
export class AppError extends Error {
  readonly status: number
  readonly code: string
  readonly errors: FieldError[] | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(
    status: number,
    code: string,
    detail: string,
    more: { errors?: FieldError[]; retryAfterSeconds?: number } = {},
  ) {
    super(detail)
    this.status = status
    this.code = code
    this.errors = more.errors
    this.retryAfterSeconds = more.retryAfterSeconds
  }
}

/** The kinds of thing that an id can name, as they stand in error codes (`device.not_found`). */
export type Noun =
  | 'tenant'
  | 'key'
  | 'product'
  | 'signing_key'
  | 'device'
  | 'package'
  | 'upload'
  | 'task'
  | 'webhook'

export const badRequest = (code: string, detail: string) => new AppError(400, code, detail)
export const unauthorized = (detail = 'A valid key is required.') =>
  new AppError(401, 'auth.required', detail)
export const forbidden = (detail: string) => new AppError(403, 'auth.forbidden', detail)
/**
 * The text of an error of an object whose task was deleted between a look into D1 and the call: on their way out of an object
 * errors keep nothing else.
 */
export const TASK_IS_GONE = 'no such task'

export const notFound = (noun: Noun, errors?: FieldError[]) =>
  new AppError(404, `${noun}.not_found`, `No such ${noun.replace('_', ' ')}.`, errors ? { errors } : {})
export const conflict = (code: string, detail: string) => new AppError(409, code, detail)
export const tooLarge = (code: string, detail: string) => new AppError(413, code, detail)
export const invalid = (errors: FieldError[], detail = 'The request is readable but not valid.') =>
  new AppError(422, 'request.invalid', detail, { errors })
/** It was not done, or it is not known whether it was: the caller sends the same request again. */
export const unavailable = (fault: PlatformFault) =>
  new AppError(503, 'service.unavailable', 'This could not be done just now; send the same request again.', {
    retryAfterSeconds: RETRY_AFTER_SECONDS[fault],
  })
export const tooMany = (retryAfterSeconds: number) =>
  new AppError(429, 'rate.limited', 'Too many requests.', { retryAfterSeconds })
