import { createRoute, z } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { notFound } from '../common/errors.ts'
import { iso } from '../common/time.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { createRouter, idParam, json, listOf, listQuery, problems, withKey } from '../http/openapi.ts'
import { reasonAnswer } from '../http/reason.ts'
import { readRejections } from './read-rejections.ts'
import { activeUpgrades, endedUpgrades, findDevice } from './store.ts'

const reads = { tags: ['devices'], security: withKey, middleware: requireRole('viewer') }

const upgradeAnswer = z
  .object({
    taskId: z.string(),
    taskName: z.string(),
    module: z.string(),
    fromVersion: z.string().nullable(),
    targetVersion: z.string(),
    status: z.enum(['active', 'success', 'failure', 'cancelled']),
    description: z.string().nullable(),
    because: reasonAnswer.nullable(),
    rolledBack: z.boolean(),
    attempt: z.number().int().nullable().openapi({ description: 'Null while active; the task has it' }),
    finishedAt: z.string().nullable(),
  })
  .openapi('DeviceUpgrade')

const rejectionsAnswer = z
  .object({
    total: z.number().int(),
    items: z.array(
      z.object({
        at: z.string(),
        topic: z.string(),
        payload: z.string(),
        code: z.string().optional(),
        reason: z.string(),
      }),
    ),
  })
  .openapi('DeviceRejections')

const NOT_ENDED = {
  status: 'active' as const,
  description: null,
  because: null,
  rolledBack: false,
  attempt: null,
  finishedAt: null,
}

/** A device's upgrades, and its rejected messages. */
export const deviceHistoryRoutes = createRouter()
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/devices/{id}/upgrades',
      description: 'The first page begins with the active upgrades, so it may have more than `limit` items.',
      request: { params: idParam, query: listQuery },
      responses: { 200: json(listOf(upgradeAnswer), 'Upgrades, newest task first'), ...problems },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const { limit, cursor } = c.req.valid('query')
      const place = placeOf(c, cursor)
      const tenantId = tenantOf(c)
      const db = openDb(c.env.DB)
      if (!(await findDevice(db, tenantId, id))) throw notFound('device')
      const active = cursor === undefined ? await activeUpgrades(db, tenantId, id) : []
      const ended = listPage(
        c,
        await endedUpgrades(db, tenantId, id, limit, place),
        limit,
        (row) => row.taskId,
      )
      const items = [
        ...active.map((row) => ({ ...row, ...NOT_ENDED })),
        ...ended.items.map((row) => ({ ...row, finishedAt: iso(row.finishedAt) })),
      ]
      return c.json({ items, nextCursor: ended.nextCursor }, 200)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/devices/{id}/rejections',
      request: { params: idParam },
      responses: {
        200: json(
          rejectionsAnswer,
          'The latest rejected messages, newest first, and how many there were in all',
        ),
        ...problems,
      },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const tenantId = tenantOf(c)
      const db = openDb(c.env.DB)
      const device = await findDevice(db, tenantId, id)
      if (!device) throw notFound('device')
      const { total, items } = await readRejections(c.env, db, device)
      const newestFirst = items.toSorted((a, b) => b.at - a.at)
      return c.json(
        { total, items: newestFirst.map(({ key, ...item }) => ({ ...item, at: iso(item.at) })) },
        200,
      )
    },
  )
