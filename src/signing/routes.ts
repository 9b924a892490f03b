import { createRoute, z } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { conflict, invalid, notFound } from '../common/errors.ts'
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
import { isUsablePublicKey } from '../protocol/firmware-signature.ts'
import {
  MAX_SIGNING_KEYS,
  newSigningKeyBody,
  type SigningKey,
  signingKeyAnswer,
  toSigningKeyAnswer,
} from './signing-key.ts'
import {
  findSigningKey,
  insertSigningKey,
  isInForce,
  listSigningKeys,
  productExists,
  retireSigningKey,
} from './store.ts'

const path = '/api/v1/products/{id}/signing-keys'
const base = { tags: ['products'], security: withKey }

export const signingKeyRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      middleware: requireRole('admin'),
      method: 'post',
      path,
      description: `A product has at most ${MAX_SIGNING_KEYS} keys in force. Its first key fixes its \`signingName\`.`,
      request: { params: idParam, body: jsonBody(newSigningKeyBody) },
      responses: { 201: json(signingKeyAnswer, 'The new key'), ...problems },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), productId: c.req.valid('param').id }
      const body = c.req.valid('json')
      if (!(await isUsablePublicKey(body.publicKey))) {
        throw invalid([{ path: 'publicKey', message: 'is no key: anybody could sign under it' }])
      }
      const id = await newIdFor(c, 'sgk')
      const key: SigningKey = { id, ...ref, ...body, createdAt: Date.now(), retiredAt: null }
      if (!(await insertSigningKey(c.env.DB, key))) {
        const db = openDb(c.env.DB)
        if (!(await productExists(db, ref))) throw notFound('product')
        const before = await findSigningKey(db, ref, id)
        if (before) return c.json(toSigningKeyAnswer(before), 201)
        throw (await isInForce(db, ref, body.publicKey))
          ? conflict('signing_key.exists', 'The product has this key already.')
          : conflict(
              'signing_key.limit',
              `The product has ${MAX_SIGNING_KEYS} keys in force: retire one first.`,
            )
      }
      return c.json(toSigningKeyAnswer(key), 201)
    },
  )
  .openapi(
    createRoute({
      ...base,
      middleware: requireRole('viewer'),
      method: 'get',
      path,
      request: { params: idParam, query: listQuery },
      responses: {
        200: json(listOf(signingKeyAnswer), 'Keys, oldest first, with the retired ones'),
        ...problems,
      },
    }),
    async (c) => {
      const ref = { tenantId: tenantOf(c), productId: c.req.valid('param').id }
      const { limit, cursor } = c.req.valid('query')
      const db = openDb(c.env.DB)
      if (!(await productExists(db, ref))) throw notFound('product')
      const rows = await listSigningKeys(db, ref, limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (key) => key.id)
      return c.json({ items: items.map(toSigningKeyAnswer), nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      middleware: requireRole('admin'),
      method: 'delete',
      path: `${path}/{keyId}`,
      description:
        'Retires the key for good: what it signed goes to no device any more, from 5 s after the answer. May be repeated.',
      request: { params: idParam.extend({ keyId: z.string() }) },
      responses: { 204: { description: 'Retired' }, ...problems },
    }),
    async (c) => {
      const { id, keyId } = c.req.valid('param')
      const ref = { tenantId: tenantOf(c), productId: id }
      const db = openDb(c.env.DB)
      if (!(await retireSigningKey(db, ref, keyId, Date.now()))) {
        throw notFound((await productExists(db, ref)) ? 'signing_key' : 'product')
      }
      return c.body(null, 204)
    },
  )
