import { createRoute, z } from '@hono/zod-openapi'
import { hashKey, newKey } from '../auth/key.ts'
import { requireRole } from '../auth/middleware.ts'
import { type ApiKey, insertKey, type KeyScope, listKeys, revokeKey } from '../auth/store.ts'
import { forbidden, invalid, notFound } from '../common/errors.ts'
import { iso } from '../common/time.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { newIdFor } from '../http/new-id.ts'
import {
  bridgeName,
  createRouter,
  idParam,
  idText,
  json,
  jsonBody,
  listOf,
  listQuery,
  name,
  problems,
  withKey,
} from '../http/openapi.ts'
import type { Principal } from '../http/principal.ts'
import { endConnections } from '../hub/hub.ts'
import { findTenant } from '../tenants/store.ts'

const role = z.enum(['root', 'admin', 'operator', 'viewer', 'bridge'])

const keyAnswer = z
  .object({
    id: z.string(),
    name: z.string(),
    role,
    bridge: z.string().nullable(),
    tenantId: z.string().nullable(),
    createdAt: z.string(),
    lastUsedAt: z.string().nullable(),
    revokedAt: z.string().nullable(),
  })
  .openapi('Key')

const newKeyBody = z.strictObject({
  name,
  role,
  bridge: bridgeName.optional(),
  tenantId: idText.nullable().optional(),
})

const toAnswer = ({ hash: _, createdAt, lastUsedAt, revokedAt, ...key }: ApiKey) => ({
  ...key,
  createdAt: iso(createdAt),
  lastUsedAt: iso(lastUsedAt),
  revokedAt: iso(revokedAt),
})

const base = { tags: ['keys'], security: withKey, middleware: requireRole('admin', 'root') }

export const keyRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/api/v1/keys',
      description:
        "An admin makes keys of its own tenant. Root makes a tenant's first key by `tenantId`; without one it makes " +
        'a key of the installation: role `root`, or a `bridge` that serves every tenant.',
      request: { body: jsonBody(newKeyBody) },
      responses: {
        201: json(keyAnswer.extend({ key: z.string() }), 'The new key, shown this once'),
        ...problems,
      },
    }),
    async (c) => {
      const body = c.req.valid('json')
      const tenantId = tenantOfNewKey(c.var.principal, body)
      const db = openDb(c.env.DB)
      if (tenantId !== null && !(await findTenant(db, tenantId))) throw notFound('tenant')
      const key = newKey()
      const row: ApiKey = {
        id: await newIdFor(c, 'key'),
        tenantId,
        name: body.name,
        role: body.role,
        bridge: body.bridge ?? null,
        hash: await hashKey(key),
        createdAt: c.var.repeat?.at ?? Date.now(),
        lastUsedAt: null,
        revokedAt: null,
      }
      await insertKey(db, row)
      return c.json({ ...toAnswer(row), key }, 201)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'get',
      path: '/api/v1/keys',
      description:
        "An admin sees the keys of its own tenant; root those of `tenantId`, or the installation's own.",
      request: { query: listQuery.extend({ tenantId: idText.optional() }) },
      responses: { 200: json(listOf(keyAnswer), 'Keys, oldest first, without the secret part'), ...problems },
    }),
    async (c) => {
      const { limit, cursor, tenantId } = c.req.valid('query')
      const { principal } = c.var
      if (principal.role !== 'root' && tenantId !== undefined && tenantId !== principal.tenantId) {
        throw notFound('tenant')
      }
      const scope = { tenantId: principal.tenantId ?? tenantId ?? null }
      const rows = await listKeys(openDb(c.env.DB), scope, limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (key) => key.id)
      return c.json({ items: items.map(toAnswer), nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'delete',
      path: '/api/v1/keys/{id}',
      request: { params: idParam },
      description: "Ends the key's sessions of the console, too, and a bridge's connections with its lease.",
      responses: { 204: { description: 'Revoked: refused from now on' }, ...problems },
    }),
    async (c) => {
      const { principal } = c.var
      const scope: KeyScope = principal.role === 'root' ? 'all' : { tenantId: principal.tenantId }
      const key = await revokeKey(openDb(c.env.DB), scope, c.req.valid('param').id, Date.now())
      if (!key) throw notFound('key')
      // On each call: a repeat reaches the hub that an earlier call missed.
      await endConnections(c.env, key)
      return c.body(null, 204)
    },
  )

/** The new key's tenant; null for the installation. Throws if the calling key may not make such a key. */
function tenantOfNewKey(principal: Principal, body: z.infer<typeof newKeyBody>): string | null {
  if ((body.role === 'bridge') !== (body.bridge !== undefined)) {
    const message =
      body.role === 'bridge' ? 'a bridge key names its bridge' : 'only a bridge key names a bridge'
    throw invalid([{ path: 'bridge', message }])
  }
  const tenantId = body.tenantId ?? null
  if (principal.role !== 'root') {
    if (body.role === 'root') throw forbidden('Only a root key makes root keys.')
    if (tenantId !== null && tenantId !== principal.tenantId) throw notFound('tenant')
    return principal.tenantId
  }
  if (body.role === 'root' && tenantId !== null) {
    throw invalid([{ path: 'tenantId', message: 'a root key belongs to no tenant' }])
  }
  if (body.role !== 'root' && body.role !== 'bridge' && tenantId === null) {
    throw invalid([{ path: 'tenantId', message: `a key with the role ${body.role} belongs to a tenant` }])
  }
  return tenantId
}
