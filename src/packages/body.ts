import type { Context } from 'hono'
import { AppError, badRequest, invalid, tooLarge } from '../common/errors.ts'
import { CutOff, type DigestMethod, type Digests, readWhole } from './digests.ts'
import { MAX_BODY_BYTES } from './package.ts'

/** A request's raw body, unread. */
export interface RawBody {
  stream: ReadableStream<Uint8Array>
  /** The request's Content-Length, in bytes. */
  length: number
}

/** Media types of bodies that carry a file in a wrapping, or are none. */
const WRAPPED = /^(?:multipart\/.*|application\/json|text\/json|.*\+json)$/
/** What `curl -d` and `--data-binary` send. */
const FORM = 'application/x-www-form-urlencoded'

/**
 * Refuses a body that is not the file itself: 415. A ready package never changes, so what a form or a compression put
 * around the file would go to devices. `isProven`: the digest that came with it shows whether it is the file.
 */
function requireRaw(c: Context, isProven: boolean): void {
  const encoding = c.req.header('content-encoding')?.trim().toLowerCase() ?? ''
  if (encoding !== '' && encoding !== 'identity') {
    throw notRaw(`The file goes up as it is, without Content-Encoding (${encoding.slice(0, 20)}).`)
  }
  const type = (c.req.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  if (WRAPPED.test(type)) throw notRaw(`The body is the file itself, not ${type.slice(0, 40)}.`)
  if (type === FORM && !isProven) {
    throw notRaw('`curl -d` drops line ends. A body of this type needs X-Content-SHA256.')
  }
}

const notRaw = (why: string) =>
  new AppError(
    415,
    'upload.not_raw',
    `${why} Send it with: curl -T firmware.bin -H 'Authorization: Bearer …' URL`,
  )

/**
 * Returns the raw body of a request: 415 if it is not the file itself, 411 without a length, 422 if it is empty, 413 over
 * `MAX_BODY_BYTES`.
 */
export function rawBody(c: Context, { isProven = false } = {}): RawBody {
  requireRaw(c, isProven)
  const header = c.req.header('content-length')
  const stream = c.req.raw.body
  if (header === undefined || !/^\d{1,15}$/.test(header)) {
    // A request without a body needs no Content-Length.
    if (header === undefined && stream === null) throw emptyBodyError()
    throw new AppError(411, 'request.length_required', 'An upload says its length in Content-Length.')
  }
  const length = Number(header)
  if (length === 0 || stream === null) throw emptyBodyError()
  if (length > MAX_BODY_BYTES) {
    throw tooLarge(
      'upload.too_large',
      `One request may carry ${MAX_BODY_BYTES} bytes; larger files go up in parts.`,
    )
  }
  return { stream, length }
}

const emptyBodyError = () => invalid([{ path: 'body', message: 'must not be empty' }])

/**
 * Streams a body into the bucket with `store` and computes its digests on the way. A body that is cut off is a 400
 * `upload.incomplete`, even if the client is gone; nothing of it stays in the bucket.
 */
export async function storeBody<T>(
  { stream, length }: RawBody,
  methods: DigestMethod[],
  store: (whole: ReadableStream) => Promise<T>,
): Promise<{ stored: T; digests: Digests }> {
  const whole = new FixedLengthStream(length)
  // Waits for both even if one fails, so that no write goes on after the return.
  const [reading, storing] = await Promise.allSettled([
    readWhole(stream, length, { methods, sink: whole.writable }),
    store(whole.readable),
  ])
  if (reading.status === 'rejected' && reading.reason instanceof CutOff) {
    throw badRequest('upload.incomplete', 'The body did not have the length that Content-Length announced.')
  }
  if (storing.status === 'rejected') throw storing.reason
  if (reading.status === 'rejected') throw reading.reason
  return { stored: storing.value, digests: reading.value }
}
