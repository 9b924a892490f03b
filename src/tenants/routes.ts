import { createRoute, z } from '@hono/zod-openapi'
import { requireRole } from '../auth/middleware.ts'
import { iso } from '../common/time.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { newIdFor } from '../http/new-id.ts'
import { createRouter, json, jsonBody, listOf, listQuery, name, problems, withKey } from '../http/openapi.ts'
import { insertTenant, listTenants, type Tenant } from './store.ts'

const tenantAnswer = z.object({ id: z.string(), name: z.string(), createdAt: z.string() }).openapi('Tenant')

const toAnswer = ({ id, name, createdAt }: Tenant) => ({ id, name, createdAt: iso(createdAt) })

const base = { tags: ['tenants'], security: withKey, middleware: requireRole('root') }

export const tenantRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/api/v1/tenants',
      request: { body: jsonBody(z.strictObject({ name })) },
      responses: { 201: json(tenantAnswer, 'The new tenant'), ...problems },
    }),
    async (c) => {
      const tenant = {
        id: await newIdFor(c, 'ten'),
        name: c.req.valid('json').name,
        createdAt: c.var.repeat?.at ?? Date.now(),
      }
      await insertTenant(openDb(c.env.DB), tenant)
      return c.json(toAnswer(tenant), 201)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'get',
      path: '/api/v1/tenants',
      request: { query: listQuery },
      responses: { 200: json(listOf(tenantAnswer), 'Tenants, oldest first'), ...problems },
    }),
    async (c) => {
      const { limit, cursor } = c.req.valid('query')
      const rows = await listTenants(openDb(c.env.DB), limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (tenant) => tenant.id)
      return c.json({ items: items.map(toAnswer), nextCursor }, 200)
    },
  )
