import { createRoute, z } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { notFound } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import { createRouter, idParam, json, jsonBody, problems, withKey } from '../http/openapi.ts'
import { abortUpload } from './abort-upload.ts'
import { rawBody } from './body.ts'
import { completeUpload } from './complete-upload.ts'
import { binaryBody } from './package.ts'
import { receivePart } from './receive-part.ts'
import { startUpload } from './start-upload.ts'
import { findPackage } from './store.ts'
import { newUploadAnswer, newUploadBody, partAnswer, toUploadAnswer, uploadAnswer } from './upload.ts'
import { findUpload, listParts } from './upload-store.ts'

const uploadParams = idParam.extend({ uploadId: z.string() })
const partParams = uploadParams.extend({ n: z.coerce.number().int().min(1) })

const base = { tags: ['packages'], security: withKey, middleware: requireRole('operator') }
const one = { path: '/api/v1/packages/{id}/uploads/{uploadId}', request: { params: uploadParams } } as const

/** Uploads in parts, for files over 100 MB and up to 5 GB. */
export const uploadRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/api/v1/packages/{id}/uploads',
      request: { params: idParam, body: jsonBody(newUploadBody) },
      responses: { 201: json(newUploadAnswer, 'The upload; its parts may come in any order'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), packageId: c.req.valid('param').id }
      const { size, sha256 = null, filename = null } = c.req.valid('json')
      const file = { size, sha256, filename }
      const upload = await startUpload(openDb(c.env.DB), c.env.PACKAGES, ref, file, Date.now())
      return c.json({ uploadId: upload.id, partSize: upload.partSize }, 201)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'put',
      path: '/api/v1/packages/{id}/uploads/{uploadId}/parts/{n}',
      description: 'Raw bytes with Content-Length. A part that is sent again replaces the earlier one.',
      request: { params: partParams, body: binaryBody },
      responses: { 200: json(partAnswer, 'The part arrived'), ...problems },
    }),
    async (c) => {
      const { id, uploadId, n } = c.req.valid('param')
      const ref = { tenantId: tenantOf(c), packageId: id, uploadId }
      return c.json(await receivePart(openDb(c.env.DB), c.env.PACKAGES, ref, n, rawBody(c)), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...one,
      method: 'get',
      responses: { 200: json(uploadAnswer, 'What arrived so far, and what is missing'), ...problems },
    }),
    async (c) => {
      const { id, uploadId } = c.req.valid('param')
      const ref = { tenantId: tenantOf(c), packageId: id, uploadId }
      const db = openDb(c.env.DB)
      if (!(await findPackage(db, ref))) throw notFound('package')
      const upload = await findUpload(db, ref)
      if (!upload) throw notFound('upload')
      return c.json(toUploadAnswer(upload, await listParts(db, upload.id)), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...one,
      method: 'delete',
      responses: { 204: { description: 'Aborted, its parts are gone' }, ...problems },
    }),
    async (c) => {
      const { id, uploadId } = c.req.valid('param')
      await abortUpload(openDb(c.env.DB), c.env.PACKAGES, { tenantId: tenantOf(c), packageId: id, uploadId })
      return c.body(null, 204)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/api/v1/packages/{id}/uploads/{uploadId}/complete',
      description:
        'The package is `verifying` until it is `ready`, or a `draft` with `error`. May be repeated.',
      request: { params: uploadParams },
      responses: { 202: json(z.object({ state: z.literal('verifying') }), 'Being verified'), ...problems },
    }),
    async (c) => {
      const { id, uploadId } = c.req.valid('param')
      await completeUpload(openDb(c.env.DB), c.env, { tenantId: tenantOf(c), packageId: id, uploadId })
      return c.json({ state: 'verifying' as const }, 202)
    },
  )
