import { createRoute } from '@hono/zod-openapi'
import { requireRole } from '../auth/middleware.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { createRouter, json, listOf, problems, withKey } from '../http/openapi.ts'
import { auditAnswer, auditQuery, toAuditAnswer } from './entry.ts'
import { listEntries } from './store.ts'

/** The audit log. Only the changes themselves write it; no call changes or deletes an entry, and old ones go (src/retention/README.md). */
export const auditRoutes = createRouter().openapi(
  createRoute({
    tags: ['audit'],
    security: withKey,
    middleware: requireRole('admin', 'root'),
    method: 'get',
    path: '/api/v1/audit',
    description: "An admin sees what the tenant's keys did; root what keys of the installation did.",
    request: { query: auditQuery },
    responses: { 200: json(listOf(auditAnswer), 'Entries, newest first'), ...problems },
  }),
  async (c) => {
    const { limit, cursor, ...filter } = c.req.valid('query')
    const rows = await listEntries(
      openDb(c.env.DB),
      c.var.principal.tenantId,
      filter,
      limit,
      placeOf(c, cursor),
    )
    const { items, nextCursor } = listPage(c, rows, limit, (entry) => entry.id)
    return c.json({ items: items.map(toAuditAnswer), nextCursor }, 200)
  },
)
