import { createRoute, z } from '@hono/zod-openapi'
import { auditDone } from '../audit/audit.ts'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { AppError, conflict, invalid, notFound } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { inexactNumber } from '../http/exact-numbers.ts'
import { newIdFor } from '../http/new-id.ts'
import { createRouter, idParam, json, jsonBody, listQuery, problems, withKey } from '../http/openapi.ts'
import { findProduct } from '../products/store.ts'
import { signatureBody } from '../signing/signing-key.ts'
import { rawBody } from './body.ts'
import { assertKeyInForce } from './check-signature.ts'
import { sha256Hex } from './digests.ts'
import { filename } from './filename.ts'
import {
  binaryBody,
  newPackageBody,
  packageAnswer,
  packageFilter,
  packageList,
  toNewPackage,
  toPackageAnswer,
} from './package.ts'
import { recallPackage } from './recall-package.ts'
import { notDraftError, receiveFile } from './receive-file.ts'
import { mayBeSignedAnew, signAnew } from './sign-anew.ts'
import { deleteUnusedPackage, findPackage, insertDraft, listPackages, setSignature } from './store.ts'
import { uploadRoutes } from './upload-routes.ts'
import { BACKUP_WAKE_MS, packageVerifier } from './verifier-stub.ts'

const RETRY_AFTER_SECONDS = 5

const base = { tags: ['packages'], security: withKey }
const reads = { ...base, middleware: requireRole('viewer') }
const writes = { ...base, middleware: requireRole('operator') }
const one = { path: '/api/v1/packages/{id}', request: { params: idParam } } as const

export const packageRoutes = createRouter()
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/packages',
      request: { body: jsonBody(newPackageBody) },
      responses: {
        201: json(packageAnswer, 'The new package, a draft until its file is there'),
        ...problems,
      },
    }),
    async (c) => {
      const tenantId = tenantOf(c)
      const inexact = inexactNumber(await c.req.text(), 'extData')
      if (inexact !== undefined) {
        throw invalid([{ path: inexact, message: 'cannot be kept exactly as a number; send it as text' }])
      }
      const pkg = toNewPackage(c.req.valid('json'), {
        id: await newIdFor(c, 'pkg'),
        tenantId,
        createdAt: Date.now(),
      })
      const db = openDb(c.env.DB)
      if (pkg.signatureKeyId !== null && (await findProduct(db, tenantId, pkg.productId))) {
        await assertKeyInForce(c.env.DB, pkg.productId, pkg.signatureKeyId, 'signature.keyId')
      }
      if (!(await insertDraft(db, pkg))) {
        const before = await findPackage(db, { tenantId, packageId: pkg.id })
        if (before) return c.json(toPackageAnswer(before), 201)
        if (await findProduct(db, tenantId, pkg.productId)) {
          throw conflict('package.exists', 'The product has a package of this module, version and kind.')
        }
        throw notFound('product', [{ path: 'productId', message: 'no such product' }])
      }
      return c.json(toPackageAnswer(pkg), 201)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/packages',
      request: { query: listQuery.extend(packageFilter.shape) },
      responses: { 200: json(packageList, 'Packages, oldest first'), ...problems },
    }),
    async (c) => {
      const { limit, cursor, ...filter } = c.req.valid('query')
      const rows = await listPackages(openDb(c.env.DB), tenantOf(c), filter, limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (pkg) => pkg.id)
      return c.json({ items: items.map(toPackageAnswer), nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      ...one,
      method: 'get',
      responses: { 200: json(packageAnswer, 'The package'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), packageId: c.req.valid('param').id }
      const pkg = await findPackage(openDb(c.env.DB), ref)
      if (!pkg) throw notFound('package')
      return c.json(toPackageAnswer(pkg), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...one,
      method: 'delete',
      description: 'Deletes the package with its file and uploads, unless a task uses it.',
      responses: { 204: { description: 'Deleted' }, ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), packageId: c.req.valid('param').id }
      const db = openDb(c.env.DB)
      if (!(await findPackage(db, ref))) throw notFound('package')
      const verifier = packageVerifier(c.env, ref)
      // Removes the file even if this process ends right after the row is deleted.
      await verifier.wake(ref, BACKUP_WAKE_MS)
      const result = await deleteUnusedPackage(db, ref)
      if (result === 'not found') throw notFound('package')
      if (result === 'in use') throw conflict('package.in_use', 'A task uses the package.')
      await verifier.wake(ref)
      return c.body(null, 204)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'put',
      path: '/api/v1/packages/{id}/file',
      description:
        'Raw bytes with Content-Length, at most 100 MB. A package that is ready never changes, so a body that may not be ' +
        'the file itself is a 415: forms, JSON, Content-Encoding, and `curl -d` without X-Content-SHA256.',
      request: {
        params: idParam,
        query: z.object({ filename: filename.optional() }),
        headers: z.object({ 'x-content-sha256': sha256Hex.optional() }),
        body: binaryBody,
      },
      responses: { 200: json(packageAnswer, 'The package, ready'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), packageId: c.req.valid('param').id }
      const db = openDb(c.env.DB)
      const pkg = await findPackage(db, ref)
      if (pkg?.state !== 'draft') throw notDraftError(pkg)
      const sha256 = c.req.valid('header')['x-content-sha256']
      const receiving = receiveFile(c.env, db, pkg, {
        body: rawBody(c, { isProven: sha256 !== undefined }),
        filename: c.req.valid('query').filename ?? null,
        sha256,
      })
      // The work goes on if the client goes away, since it must not stop between the bucket and the database.
      c.executionCtx.waitUntil(
        receiving.then(
          () =>
            packageVerifier(c.env, ref)
              .wake(ref)
              .catch((error) =>
                logError('package.leftovers_stay', { package: ref.packageId, ...errorFields(error) }),
              ),
          () => {},
        ),
      )
      return c.json(toPackageAnswer(await receiving), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'put',
      path: '/api/v1/packages/{id}/signature',
      description:
        'Of a draft; it is checked when the file is complete. Of a ready package only if the key that signed it was retired: ' +
        'it is checked at once, and tasks that are made from then on may send the package again.',
      request: { params: idParam, body: jsonBody(signatureBody) },
      responses: { 200: json(packageAnswer, 'The draft'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), packageId: c.req.valid('param').id }
      const signature = c.req.valid('json')
      const db = openDb(c.env.DB)
      const pkg = await findPackage(db, ref)
      if (pkg && (await mayBeSignedAnew(c.env.DB, pkg))) {
        return c.json(toPackageAnswer(await signAnew(c.env.DB, db, pkg, signature)), 200)
      }
      if (pkg?.state !== 'draft') throw notDraftError(pkg)
      await assertKeyInForce(c.env.DB, pkg.productId, signature.keyId, 'keyId')
      const signed = await setSignature(db, ref, signature)
      if (!signed) throw notDraftError(await findPackage(db, ref))
      return c.json(toPackageAnswer(signed), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/packages/{id}/recall',
      description:
        'Recalls the package for good: no task can be made with it, tasks that use it pause, and its file is deleted, ' +
        'so that links that devices have are dead too. A presigned download under way may still complete. From 5 s after ' +
        'the answer no notice goes out with it. Not for a draft. May be repeated; a 503 says that the rest is still ' +
        'being done.',
      request: { params: idParam },
      responses: { 200: json(packageAnswer, 'The package, recalled'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), packageId: c.req.valid('param').id }
      const { pkg, isDone } = await recallPackage(c.env, openDb(c.env.DB), ref, Date.now())
      if (!isDone) {
        await auditDone(c, { action: 'package.recall', target: pkg.id, detail: { unfinished: true } })
        throw new AppError(
          503,
          'package.recall_unfinished',
          'The package is recalled, but not every task could be told, or its file is not deleted yet. This is tried ' +
            'again by itself; call again to see that it is done.',
          { retryAfterSeconds: RETRY_AFTER_SECONDS },
        )
      }
      return c.json(toPackageAnswer(pkg), 200)
    },
  )
  .route('/', uploadRoutes)
