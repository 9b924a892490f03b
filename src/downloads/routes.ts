import { type Context, Hono } from 'hono'
import { AppError } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import type { AppEnv } from '../http/principal.ts'
import { toAppError } from '../http/problem.ts'
import { limitDownload, limitWrongLinks } from '../http/rate-limit.ts'
import { downloadKey } from '../links/linker.ts'
import { type Grant, readToken } from '../links/token.ts'
import { taskStub } from '../tasks/api/task-stub.ts'
import type { DownloadAnswer } from '../tasks/steps/download.ts'
import { type Range, readRange } from './range.ts'
import { copyWhileAllowed } from './stream.ts'

const PAUSED_RETRY_SECONDS = 60
const MISSING_RETRY_SECONDS = 300

type Allowed = Extract<DownloadAnswer, { state: 'ok' }>

/** Downloads through the Worker (src/downloads/README.md): the link authorizes the download, without a key. */
export const downloadRoutes = new Hono<AppEnv>().get('/d/:token', async (c) => {
  try {
    const grant = await grantOf(c)
    await limitDownload(c, `${grant.taskId} ${grant.deviceId}`)
    return await respond(c, grant, await allowedFile(c, grant))
  } catch (error) {
    // Here, since the app's error handler logs the path, which is a secret.
    throw toAppError(error, 'download.failed', {})
  }
})

async function grantOf(c: Context<AppEnv>): Promise<Grant> {
  const key = c.env.DOWNLOAD_SIGNING_KEY ? await downloadKey(c.env) : undefined
  const grant = key && (await readToken(key, c.req.param('token')!))
  // To verify a link costs less than to count it, so only what is no link is limited by address.
  if (!grant) await limitWrongLinks(c)
  if (!grant) throw new AppError(404, 'download.not_found', 'No such download.')
  if (grant.expiresAt <= Date.now()) throw new AppError(403, 'download.expired', 'The link has expired.')
  return grant
}

/**
 * Asks the task for the file. 503 while the task is paused, its product frozen or the device disabled; 410 if the
 * upgrade was cancelled or the package recalled.
 */
async function allowedFile(c: Context<AppEnv>, { taskId, deviceId, packageIndex }: Grant): Promise<Allowed> {
  const allowed = await taskStub(c.env, taskId).openDownload(deviceId, packageIndex)
  if (allowed.state === 'gone') throw goneError()
  if (allowed.state === 'paused') {
    throw new AppError(503, 'download.paused', 'The upgrade is paused.', {
      retryAfterSeconds: PAUSED_RETRY_SECONDS,
    })
  }
  return allowed
}

/** The bucket lacks the file, though nobody recalled it: logged and noted, since it must be put back. */
function missingError(c: Context<AppEnv>, grant: Grant): AppError {
  logError('download.file_missing', { task: grant.taskId, package: grant.packageIndex })
  note(c, grant, 'missing')
  return new AppError(503, 'download.file_missing', 'The file is not there just now.', {
    retryAfterSeconds: MISSING_RETRY_SECONDS,
  })
}

function note(c: Context<AppEnv>, grant: Grant, what: 'began' | 'completed' | 'missing'): void {
  c.executionCtx.waitUntil(
    taskStub(c.env, grant.taskId)
      .noteDownload(grant.deviceId, grant.packageIndex, what)
      .catch((error) => logError('download.not_noted', { task: grant.taskId, ...errorFields(error) })),
  )
}

const goneError = () => new AppError(410, 'download.gone', 'There is nothing to download any more.')

async function respond(c: Context<AppEnv>, grant: Grant, file: Allowed): Promise<Response> {
  const etag = `"${file.sign}"`
  const headers = new Headers({ 'accept-ranges': 'bytes', 'cache-control': 'private, no-store', etag })
  if (matchesEtag(c.req.header('if-none-match'), etag)) return new Response(null, { status: 304, headers })
  if (c.req.method === 'HEAD') {
    const object = await c.env.PACKAGES.head(file.storageKey)
    if (object?.size !== file.size) throw missingError(c, grant)
    setFileHeaders(headers, object, file.size)
    return new Response(null, { headers })
  }
  const ifRange = c.req.header('if-range')
  const range =
    ifRange === undefined || ifRange === etag ? readRange(c.req.header('range'), file.size) : undefined
  if (range === 'unsatisfiable') {
    headers.set('content-range', `bytes */${file.size}`)
    return new Response(null, { status: 416, headers })
  }
  const part = range ?? { offset: 0, length: file.size }
  const object = await c.env.PACKAGES.get(file.storageKey, { range: part })
  if (object?.size !== file.size) throw missingError(c, grant)
  setFileHeaders(headers, object, part.length)
  if (range) {
    headers.set('content-range', `bytes ${part.offset}-${part.offset + part.length - 1}/${file.size}`)
  }
  return new Response(stream(c, grant, object, part), { status: range ? 206 : 200, headers })
}

const matchesEtag = (ifNoneMatch: string | undefined, etag: string): boolean =>
  ifNoneMatch !== undefined && (ifNoneMatch.trim() === '*' || ifNoneMatch.includes(etag))

/** File name and content type come from the object's metadata, as with a presigned link. */
function setFileHeaders(headers: Headers, object: R2Object, length: number): void {
  object.writeHttpMetadata(headers)
  headers.set('last-modified', object.uploaded.toUTCString())
  headers.set('content-length', String(length))
}

function stream(
  c: Context<AppEnv>,
  grant: Grant,
  object: R2ObjectBody,
  { offset, length }: Range,
): ReadableStream {
  const { readable, writable } = new FixedLengthStream(length)
  const copied = copyWhileAllowed(object.body, writable, {
    began: () => note(c, grant, 'began'),
    completed: () => {
      if (offset + length === object.size) note(c, grant, 'completed')
    },
    isAllowed: async () => {
      try {
        await allowedFile(c, grant)
        return true
      } catch (error) {
        if (error instanceof AppError) return false
        throw error
      }
    },
  })
  c.executionCtx.waitUntil(copied)
  return readable
}
