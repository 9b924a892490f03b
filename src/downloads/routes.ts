import { type Context, Hono } from 'hono'
import type { AppEnv } from '../auth/principal.ts'
import { AppError } from '../errors.ts'
import { limitAddress } from '../rate-limit.ts'
import type { DownloadAnswer } from '../tasks/download.ts'
import { taskStub } from '../tasks/task-stub.ts'
import { downloadKey } from './linker.ts'
import { type Range, readRange } from './range.ts'
import { copy } from './stream.ts'
import { type Grant, readToken } from './token.ts'

const PAUSED_RETRY_SECONDS = 60

type Allowed = Extract<DownloadAnswer, { state: 'ok' }>

/** Downloads through the Worker (`DOWNLOADS=worker`): the link is all that a device needs to show. */
export const downloadRoutes = new Hono<AppEnv>().get('/d/:token', async (c) => {
  await limitAddress(c)
  const grant = await grantOf(c)
  const file = await allowedFile(c, grant)
  const etag = `"${file.sign}"`
  const headers = {
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-store',
    'content-type': 'application/octet-stream',
    'content-disposition': 'attachment',
    etag,
  }
  if (c.req.header('if-none-match')?.includes(etag)) return new Response(null, { status: 304, headers })
  const ifRange = c.req.header('if-range')
  const asked = ifRange === undefined || ifRange === etag ? c.req.header('range') : undefined
  const range = readRange(asked, file.size)
  if (range === 'unsatisfiable') {
    return new Response(null, {
      status: 416,
      headers: { ...headers, 'content-range': `bytes */${file.size}` },
    })
  }
  const { offset, length } = range ?? { offset: 0, length: file.size }
  const sized = { ...headers, 'content-length': String(length) }
  const answer = range
    ? {
        status: 206,
        headers: { ...sized, 'content-range': `bytes ${offset}-${offset + length - 1}/${file.size}` },
      }
    : { status: 200, headers: sized }
  if (c.req.method === 'HEAD') return new Response(null, answer)
  return new Response(await stream(c, grant, file, { offset, length }), answer)
})

async function grantOf(c: Context<AppEnv>): Promise<Grant> {
  const key = c.env.DOWNLOAD_SIGNING_KEY ? await downloadKey(c.env) : undefined
  const grant = key && (await readToken(key, c.req.param('token')!))
  if (!grant) throw new AppError(404, 'download.not_found', 'No such download.')
  if (grant.expiresAt <= Date.now()) throw new AppError(403, 'download.expired', 'The link has expired.')
  return grant
}

/** 503 while the task is paused or its product frozen, 410 where there is nothing to download any more. */
async function allowedFile(c: Context<AppEnv>, { taskId, deviceId, packageIndex }: Grant): Promise<Allowed> {
  const answer = await taskStub(c.env, taskId).openDownload(deviceId, packageIndex)
  if (answer.state === 'gone') throw gone()
  if (answer.state === 'paused' || (await isFrozen(c, answer.productId))) {
    throw new AppError(503, 'download.paused', 'The upgrade is paused.', {
      retryAfterSeconds: PAUSED_RETRY_SECONDS,
    })
  }
  return answer
}

const gone = () => new AppError(410, 'download.gone', 'There is nothing to download any more.')

const isFrozen = async (c: Context<AppEnv>, productId: string) =>
  (await c.env.DB.prepare('SELECT 1 FROM products WHERE id = ? AND frozen_at IS NULL')
    .bind(productId)
    .first()) === null

async function stream(
  c: Context<AppEnv>,
  grant: Grant,
  file: Allowed,
  { offset, length }: Range,
): Promise<ReadableStream> {
  const object = await c.env.PACKAGES.get(file.storageKey, { range: { offset, length } })
  if (!object) throw gone()
  const { readable, writable } = new FixedLengthStream(length)
  const note = (what: 'began' | 'completed') =>
    c.executionCtx.waitUntil(
      taskStub(c.env, grant.taskId)
        .noteDownload(grant.deviceId, grant.packageIndex, what)
        .catch((error) => console.error('download.not_noted', { task: grant.taskId, error: String(error) })),
    )
  const copied = copy(object.body, writable, {
    began: () => note('began'),
    completed: () => {
      if (offset + length === file.size) note('completed')
    },
    isAllowed: () =>
      allowedFile(c, grant).then(
        () => true,
        (error) => !(error instanceof AppError),
      ),
  })
  c.executionCtx.waitUntil(copied)
  return readable
}
