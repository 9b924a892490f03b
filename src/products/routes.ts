import { createRoute } from '@hono/zod-openapi'
import { auditDone } from '../audit/audit.ts'
import { admits, requireRole, tenantOf } from '../auth/middleware.ts'
import type { Env } from '../common/env.ts'
import { AppError, conflict, notFound } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { newIdFor } from '../http/new-id.ts'
import {
  createRouter,
  idParam,
  json,
  jsonBody,
  listOf,
  listQuery,
  problems,
  withKey,
} from '../http/openapi.ts'
import { linksFault } from '../links/linker.ts'
import { inEnglish } from '../reasons/reason.ts'
import { unfreezeTasksOfProduct } from '../tasks/api/tell-tasks.ts'
import { changeProduct } from './change-product.ts'
import { freezeProduct } from './freeze-product.ts'
import {
  newProductBody,
  type Product,
  productAnswer,
  productChangesBody,
  toProductAnswer,
} from './product.ts'
import { deleteUnusedProduct, findProduct, insertProduct, listProducts, setFrozen } from './store.ts'

const RETRY_AFTER_SECONDS = 1

const base = { tags: ['products'], security: withKey }
const reads = { ...base, middleware: requireRole('viewer') }
const writes = { ...base, middleware: requireRole('operator') }
const one = { path: '/api/v1/products/{id}', request: { params: idParam } } as const

const answerOr404 = (product: Product | undefined) => {
  if (!product) throw notFound('product')
  return toProductAnswer(product)
}

/** 409 `downloads.not_set_up` if the product is to have links that this installation cannot make. */
function assertDownloadsPossible(env: Env, downloads: Product['downloads'] | undefined): void {
  const fault = downloads ? linksFault(env, downloads) : null
  if (fault !== null) throw conflict('downloads.not_set_up', `Not here: ${inEnglish(fault)}.`)
}

export const productRoutes = createRouter()
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/products',
      request: { body: jsonBody(newProductBody) },
      responses: { 201: json(productAnswer, 'The new product'), ...problems },
    }),
    async (c) => {
      const {
        description = null,
        defaultModuleParam = null,
        signingName = null,
        ...body
      } = c.req.valid('json')
      assertDownloadsPossible(c.env, body.downloads)
      const product: Product = {
        id: await newIdFor(c, 'prd'),
        tenantId: tenantOf(c),
        ...body,
        description,
        defaultModuleParam,
        signingName,
        frozenAt: null,
        createdAt: Date.now(),
      }
      return c.json(toProductAnswer(await insertProduct(openDb(c.env.DB), product)), 201)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/products',
      request: { query: listQuery },
      responses: { 200: json(listOf(productAnswer), 'Products, oldest first'), ...problems },
    }),
    async (c) => {
      const { limit, cursor } = c.req.valid('query')
      const rows = await listProducts(openDb(c.env.DB), tenantOf(c), limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (product) => product.id)
      return c.json({ items: items.map(toProductAnswer), nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      ...one,
      method: 'get',
      responses: { 200: json(productAnswer, 'The product'), ...problems },
    }),
    async (c) =>
      c.json(answerOr404(await findProduct(openDb(c.env.DB), tenantOf(c), c.req.valid('param').id)), 200),
  )
  .openapi(
    createRoute({
      ...writes,
      ...one,
      method: 'patch',
      description: 'Only an admin changes `signingName` and `requireSignature`.',
      request: { params: idParam, body: jsonBody(productChangesBody) },
      responses: { 200: json(productAnswer, 'The product as it is now'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), productId: c.req.valid('param').id }
      const changes = c.req.valid('json')
      assertDownloadsPossible(c.env, changes.downloads)
      const isAdmin = admits('admin', c.var.principal.role)
      return c.json(toProductAnswer(await changeProduct(c.env, openDb(c.env.DB), ref, changes, isAdmin)), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...one,
      middleware: requireRole('admin'),
      method: 'delete',
      responses: { 204: { description: 'Deleted' }, ...problems },
    }),
    async (c) => {
      const result = await deleteUnusedProduct(openDb(c.env.DB), tenantOf(c), c.req.valid('param').id)
      if (result === 'not found') throw notFound('product')
      if (result === 'in use') {
        throw conflict('product.in_use', 'The product still has devices, packages or tasks.')
      }
      return c.body(null, 204)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/products/{id}/freeze',
      description:
        'The emergency stop: from 5 s after the answer no task of the product sends a notice, until it is unfrozen. ' +
        'A 503 says that it is frozen, but a notice may still be on its way: call again.',
      request: { params: idParam },
      responses: { 200: json(productAnswer, 'The product, frozen'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), productId: c.req.valid('param').id }
      const { product, isDone } = await freezeProduct(c.env, openDb(c.env.DB), ref, Date.now())
      if (!isDone) {
        await auditDone(c, { action: 'product.freeze', target: product.id, detail: { unfinished: true } })
        throw new AppError(
          503,
          'product.freeze_unfinished',
          'The product is frozen, but not every task could be told: a notice may still be on its way. Call again.',
          { retryAfterSeconds: RETRY_AFTER_SECONDS },
        )
      }
      return c.json(toProductAnswer(product), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/products/{id}/unfreeze',
      request: { params: idParam },
      responses: { 200: json(productAnswer, 'The product, no longer frozen'), ...problems },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const answer = answerOr404(await setFrozen(openDb(c.env.DB), tenantOf(c), id, null))
      // Also if it was not frozen: a repeat wakes the tasks that a failed call did not.
      await unfreezeTasksOfProduct(c.env, id)
      return c.json(answer, 200)
    },
  )
