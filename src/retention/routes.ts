import { createRoute, z } from '@hono/zod-openapi'
import { requireRole } from '../auth/middleware.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { createRouter, json, listOf, listQuery, problems, withKey } from '../http/openapi.ts'
import { listTenants } from '../tenants/store.ts'
import { databaseLimit } from './settings.ts'
import { databaseBytes, readUsage } from './usage.ts'

const amount = z.number().int()

const tenantUsage = z
  .object({
    tenantId: z.string(),
    devices: amount,
    packages: amount,
    packageBytes: amount.openapi({ description: 'Of package files, in R2' }),
    tasks: amount,
    archivedTasks: amount,
    outcomes: amount.openapi({ description: 'Devices that ended in a task that is not archived' }),
    objectBytes: amount.openapi({ description: "Of the tasks' objects, as they were last written back" }),
    auditEntries: amount,
  })
  .openapi('TenantUsage')

const usageAnswer = listOf(tenantUsage).extend({
  database: z
    .object({ bytes: amount, limitBytes: amount })
    .nullable()
    .openapi({ description: 'The whole database; null for an admin of a tenant' }),
})

/** What is stored, by tenant. */
export const usageRoutes = createRouter().openapi(
  createRoute({
    tags: ['usage'],
    security: withKey,
    middleware: requireRole('admin', 'root'),
    method: 'get',
    path: '/api/v1/usage',
    description: 'Root sees all tenants and the database, an admin their own tenant.',
    request: { query: listQuery },
    responses: { 200: json(usageAnswer, 'What each tenant has stored'), ...problems },
  }),
  async (c) => {
    const { limit, cursor } = c.req.valid('query')
    const place = placeOf(c, cursor)
    const { tenantId } = c.var.principal
    if (tenantId !== null) {
      const items = await readUsage(c.env.DB, [tenantId])
      return c.json({ database: null, items, nextCursor: null }, 200)
    }
    const rows = await listTenants(openDb(c.env.DB), limit, place)
    const { items, nextCursor } = listPage(c, rows, limit, ({ id }) => id)
    const [usage, bytes] = await Promise.all([
      readUsage(
        c.env.DB,
        items.map(({ id }) => id),
      ),
      databaseBytes(c.env.DB),
    ])
    return c.json({ database: { bytes, limitBytes: databaseLimit(c.env) }, items: usage, nextCursor }, 200)
  },
)
